"""Finds the syntax of a model."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from llmserve.domain import Delta, Tool, ToolCall, ToolCallDelta
from llmserve.text.output.families import (
    DEEPSEEK,
    DEEPSEEK_V3_1,
    FAMILIES,
    GEMMA_4,
    GENERIC,
    GLM,
    GRANITE,
    HARMONY,
    HERMES,
    JAMBA,
    KIMI,
    LLAMA_JSON,
    LLAMA_PYTHON,
    MINIMAX,
    MISTRAL,
    MISTRAL_JSON,
    NEMOTRON,
    PHI_4,
    QWEN_XML,
    SEED,
    SEED_THINK,
    THINK,
)
from llmserve.text.output.new_parser import new_parser
from llmserve.text.output.syntax import FamilySyntax, MarkedSyntax, OutputSyntax
from llmserve.text.output.template_syntax import TemplateSyntax
from llmserve.text.output.thinking import Thinking

BY_TEMPLATE: Final[tuple[tuple[str, OutputSyntax], ...]] = (
    (r"<\|channel\|>.*<\|message\|>", HARMONY),
    (r"<\|tool_call>", GEMMA_4),
    (r"<\|tool_calls_section_begin\|>", KIMI),
    (r"<｜tool▁calls▁begin｜>.*```json", DEEPSEEK),
    (r"<｜tool▁calls▁begin｜>", DEEPSEEK_V3_1),
    (r"\[TOOL_CALLS\].*\[ARGS\]", MISTRAL),
    (r"\[TOOL_CALLS\]", MISTRAL_JSON),
    (r"<minimax:tool_call>", MINIMAX),
    (r"<seed:tool_call>", SEED),
    (r"<TOOLCALL>", NEMOTRON),
    (r"<tool_calls>", JAMBA),
    (r"<function=.*<parameter=", QWEN_XML),
    (r"<arg_key>", GLM),
    (r"<tool_call>", HERMES),
    (r"<\|/?tool\|>|<\|/tool_call\|>", PHI_4),
    (r"<\|start_of_role\|>.*<\|tool_call\|>|<\|tool_list\|>", GRANITE),
    (r"\[func\w*\(", LLAMA_PYTHON),
    (r"<\|python_tag\|>|\"parameters\": dictionary|\"name\": .{,80}\"parameters\": ", LLAMA_JSON),
)
"""The first whose pattern a chat template contains: what it writes, or asks the model to write."""

BY_TYPE: Final[dict[str, OutputSyntax]] = {
    "gpt_oss": HARMONY,
    "gemma4": GEMMA_4,
    "gemma4_text": GEMMA_4,
    "kimi_k2": KIMI,
}
"""By the `model_type` of the config, where all models of a type have one syntax."""

THINKINGS: Final = (
    THINK,
    Thinking("[THINK]", "[/THINK]"),
    SEED_THINK,
    Thinking("◁think▷", "◁/think▷"),
)

_ARGUMENTS: Final = '{"city": "Oslo", "days": 2}'
_TOOL: Final = Tool(
    "weather",
    "{}",
    '{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}',
)


@dataclass(frozen=True, slots=True)
class ChosenSyntax:
    """A syntax and, for the log and `/v1/models`, `why` it was chosen.

    Attributes:
        is_own: whether the model was trained on it; otherwise its prompts must explain it.
    """

    syntax: OutputSyntax
    why: str
    is_own: bool = True

    @property
    def name(self) -> str:
        """As in `model.toml`."""
        return self.syntax.name

    @property
    def has_reasoning(self) -> bool:
        """Whether answers may begin with reasoning."""
        return self.syntax.thinking is not None


def choose_syntax(
    hf_tokenizer: Any, chat_template: str | None, model_type: str, given: str | None = None
) -> ChosenSyntax:
    """The syntax that an operator has `given`, a name or a `response_template` as JSON text; that
    of the tokenizer; that which the chat template shows; that of all models of this type; or else
    the generic one.

    A `response_template` that reads as one of our families do is read as that family: calls are
    streamed then, and can be forced.

    Raises:
        ConfigurationError: a `response_template` is not valid.
    """
    known = _Known(hf_tokenizer, chat_template or "")
    if given is not None and not given.startswith("{"):
        syntax = known.with_thinking(FAMILIES[given])
        return ChosenSyntax(syntax, "model.toml names it", given != GENERIC.name)
    own = getattr(hf_tokenizer, "response_template", None)
    for template, origin in (
        (given and json.loads(given), "output.syntax in model.toml"),
        (own, "response_template of the tokenizer"),
    ):
        if template:
            read = TemplateSyntax(template, origin)
            family = next((f for f in _candidates() if _agree(read, f)), None)
            if family is not None:
                return ChosenSyntax(family, f"the {origin} reads like it")
            return ChosenSyntax(read, f"the {origin}")
    for pattern, syntax in BY_TEMPLATE:
        found = re.search(pattern, chat_template or "", re.DOTALL)
        if found is not None:
            shown = found.group()[:40]
            return ChosenSyntax(known.with_thinking(syntax), f"the chat template has {shown!r}")
    if model_type in BY_TYPE:
        return ChosenSyntax(BY_TYPE[model_type], f"the model's type is {model_type}")
    syntax = known.with_thinking(GENERIC)
    return ChosenSyntax(syntax, "nothing shows a syntax of the model's own", is_own=False)


def _added_vocab(hf_tokenizer: Any) -> frozenset[str]:
    added = getattr(hf_tokenizer, "added_tokens_decoder", {})
    return frozenset(str(token.content) for token in added.values())


class _Known:
    """The delimiters that a model knows: tokens of its own, or texts in its chat template."""

    def __init__(self, hf_tokenizer: Any, chat_template: str) -> None:
        self._template = chat_template
        self._added = _added_vocab(hf_tokenizer)

    def with_thinking(self, syntax: OutputSyntax) -> OutputSyntax:
        """The syntax with the model's own delimiters of reasoning, or none."""
        if not isinstance(syntax, MarkedSyntax):
            return syntax
        candidates = (syntax.thinking, *THINKINGS) if syntax.thinking else THINKINGS
        for thinking in candidates:
            end = thinking.end
            if end in self._added or end in self._template:
                return replace(syntax, thinking=thinking)
        return replace(syntax, thinking=None)


def _candidates() -> Iterator[FamilySyntax]:
    """The families, each with its reasoning and without."""
    for family in FAMILIES.values():
        yield family
        if isinstance(family, MarkedSyntax) and family.thinking is not None:
            yield replace(family, thinking=None)


def _agree(template: TemplateSyntax, family: FamilySyntax) -> bool:
    """Whether both read what the family writes alike, and as it is meant."""
    call = ToolCall("", _TOOL.name, _ARGUMENTS)
    one, two = family.write([call]), family.write([call, call])
    texts = [one] if one == two else [one, two]
    if isinstance(family, MarkedSyntax):
        texts += ["Hello.", f"Hello.\n{one}"]
        if family.thinking is not None:
            thought = f"{family.thinking.start}\nHm.\n{family.thinking.end}\n\n"
            texts += [f"{thought}Hello.", thought + one]
    readings = [_read(family, text) for text in texts]
    return all(r[2] for r in readings[:1]) and readings == [_read(template, t) for t in texts]


def _read(syntax: OutputSyntax, text: str) -> tuple[str, str, list[Any]]:
    parser = new_parser(syntax, (_TOOL,), "", random.SystemRandom(), None)
    read = [*parser.feed(Delta(text, ())), *parser.flush()]
    calls: dict[int, list[ToolCallDelta]] = {}
    for piece in (piece for delta in read for piece in delta.calls):
        calls.setdefault(piece.index, []).append(piece)
    return (
        "".join(delta.reasoning for delta in read),
        "".join(delta.text for delta in read),
        [(c[0].name, json.loads("".join(p.arguments for p in c))) for c in calls.values()],
    )
