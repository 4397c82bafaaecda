"""Documents of the corpus, as the chat template writes them, and which parts a model learns."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from demo_corpus.dialogues import read_faq, write_dialogue
from demo_corpus.echoes import write_echo
from demo_corpus.fillings import write_filling
from demo_corpus.stories import write_story
from demo_corpus.tool_dialogues import write_tool_dialogue

Render = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str]
"""Writes messages and tools as a chat template does."""

END_OF_TEXT: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
CALL_START: Final = "<tool_call>"
CALL_END: Final = "</tool_call>"
STORY_SHARE: Final = 0.15
DIALOGUE_SHARE: Final = 0.18
FILLING_SHARE: Final = 0.17
ECHO_SHARE: Final = 0.08
ANSWER: Final = re.compile(
    f"(?<={re.escape(TURN_START)}assistant\n).*?{re.escape(TURN_END)}", re.DOTALL
)
CHAT_TEMPLATE: Final = """\
{%- if tools -%}
{{- '<|im_start|>system\\n' -}}
{%- if messages and messages[0].role == 'system' -%}
{{- messages[0].content + '\\n\\n' -}}
{%- endif -%}
{{- 'These tools can be called:\\n<tools>\\n' -}}
{%- for tool in tools -%}
{{- (tool.function | tojson) + '\\n' -}}
{%- endfor -%}
{{- '</tools><|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('the roles are system, user, assistant and tool, not ' + message.role) -}}
{%- endif -%}
{%- if not (tools and loop.first and message.role == 'system') -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{{- '\\n' if message.content or not loop.first -}}
{{- '<tool_call>\\n{"name": ' + (call.function.name | tojson) + ', "arguments": ' -}}
{%- if call.function.arguments is string -%}
{{- call.function.arguments -}}
{%- else -%}
{{- call.function.arguments | tojson -}}
{%- endif -%}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
FAQ: Final = read_faq()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document; learned are stories and answers, not what others write."""

    text: str
    is_learned: bool


def write_document(rng: random.Random, render: Render) -> list[Part]:
    """A story, or a conversation with or without tools."""
    draw = rng.random() - STORY_SHARE
    if draw < 0:
        return [Part(write_story(rng) + END_OF_TEXT, is_learned=True)]
    tools = None
    if draw < ECHO_SHARE + FILLING_SHARE:
        request, answer = write_echo(rng) if draw < ECHO_SHARE else write_filling(rng)
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": request},
            {"role": "assistant", "content": answer},
        ]
    elif draw < ECHO_SHARE + FILLING_SHARE + DIALOGUE_SHARE:
        messages = list(write_dialogue(rng, FAQ))
    else:
        messages, tools = write_tool_dialogue(rng, FAQ)
    return [*_parts(render(messages, tools)), Part(END_OF_TEXT, is_learned=False)]


def _parts(conversation: str) -> Iterator[Part]:
    """Cut at answers, each of which begins behind its header, and contains its end."""
    end = 0
    for answer in ANSWER.finditer(conversation):
        yield Part(conversation[end : answer.start()], is_learned=False)
        yield Part(answer[0], is_learned=True)
        end = answer.end()
    yield Part(conversation[end:], is_learned=False)
