"""A model's chat template, with tools, histories and options."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from chat_families import FAMILIES, family
from hypothesis import given, settings
from hypothesis import strategies as st
from talk import conversation, words
from tool_families import TAGS, TOOL_FAMILIES, template_of, tool_family
from tool_talk import CALL_ID, call, definition, talk, tool
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from llmserve.domain import Conversation, Message, Tool
from llmserve.errors import InvalidRequest
from llmserve.text.chat_template import ChatTemplate
from llmserve.text.taint import MARK, NO_MARK, marks_of, plain


def sent(conversation: Conversation, family_name: str) -> list[dict[str, Any]]:
    """The messages as transformers is to be given them for this family."""
    wants_text = family_name == "deepseek"
    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": asked.id,
                    "type": "function",
                    "function": {
                        "name": asked.name,
                        "arguments": asked.arguments if wants_text else json.loads(asked.arguments),
                    },
                }
                for asked in message.tool_calls
            ]
            turn["content"] = message.content or None
            if not message.content and not wants_text:
                del turn["content"]
        if message.role == "tool":
            turn |= {"tool_call_id": message.tool_call_id, "name": "find"}
        messages.append(turn)
    return messages


def transformers_way(
    hf: PreTrainedTokenizerFast, messages: list[dict[str, Any]], **fields: Any
) -> str:
    """Below `apply_chat_template`, which since 5.22 takes away a content that is `None`."""
    fields = {"add_generation_prompt": True} | fields | hf.special_tokens_map
    [text], _ = render_jinja_template([messages], chat_template=hf.chat_template, **fields)
    return str(text)


@pytest.mark.parametrize("name", TOOL_FAMILIES)
@settings(deadline=None, max_examples=20)
@given(text=words, asked=words, ends=st.booleans(), reasoning=words)
def test_tools_calls_results_and_reasoning_are_rendered_as_with_transformers(
    name: str, text: str, asked: str, ends: bool, reasoning: str
) -> None:
    hf = tool_family(name)
    conversation = talk(text, asked=asked, ends=ends)
    user, calling, *rest = conversation.messages
    messages = (user, replace(calling, reasoning=reasoning), *rest)
    conversation = replace(conversation, messages=messages)
    expected = transformers_way(hf, sent(conversation, name), tools=[definition(text)])
    assert template_of(name).render(conversation) == expected


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_tools_are_shown_and_of_no_family_is_a_call_or_a_result_lost(name: str) -> None:
    text = template_of(name).render(talk("ΓΔ"))
    assert "find" in text
    assert text.casefold().count("γδ") >= 6, "in the definition, twice in the call, in the result"
    assert ("<tools>" in text) == (name in ("hermes", *FAMILIES))
    greek = [mark for c, mark in zip(plain(text), marks_of(text), strict=True) if c.upper() in "ΓΔ"]
    assert set(greek) == {MARK[0]}


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_without_tools_there_is_nothing_of_them(name: str) -> None:
    text = template_of(name).render(conversation(["hi"]))
    assert "tool" not in text
    assert "unction" not in text


def test_the_generic_form_is_the_servers_but_for_what_callers_wrote() -> None:
    template = ChatTemplate(family("byte-level", "gemma"))
    text = template.render(talk("ΓΔ", asked="Γ"))
    assert not template.shows_tools
    assert [line.strip() for line in plain(text).splitlines() if "<start_of_turn>" in line] == [
        "<s><start_of_turn>user",
        "<start_of_turn>model",
        "<start_of_turn>user",
        "<start_of_turn>model",
    ]
    runs = "".join(c for c, mark in zip(plain(text), marks_of(text), strict=True) if not mark)
    for tag in ("<tools>", "</tools>", *TAGS):
        assert runs.count(tag) == plain(text).count(tag) > 0


def test_arguments_that_are_no_json_are_rendered_by_every_family() -> None:
    for name in TOOL_FAMILIES:
        user, _, result = talk("x").messages
        broken = Message("assistant", "", tool_calls=(call('{"place": brok'),))
        text = template_of(name).render(Conversation((user, broken, result)))
        assert "brok" in text


def test_a_call_and_a_content_are_both_rendered_where_only_one_is_wanted() -> None:
    user, calling, result = talk("x").messages
    both = replace(calling, content="I look.")
    text = template_of("deepseek").render(Conversation((user, both, result)))
    assert text.index("I look.") < text.index("<calls>")


def test_what_a_template_refuses_of_a_history_names_the_message() -> None:
    user, calling, result = talk("x").messages
    twice = replace(calling, tool_calls=calling.tool_calls * 2)
    cases = [
        ("llama-3.1", (user, twice, result), r"messages\.1 \(assistant\): one call at a time"),
        ("channels", (user, result), r"messages\.1 \(tool\): a result without a call"),
        (
            "mistral-tools",
            (Message("developer", "Hi"), user),
            r"messages\.0 \(developer\): only users",
        ),
    ]
    for name, messages, match in cases:
        template = template_of(name)
        with pytest.raises(InvalidRequest, match=match) as refused:
            template.render(Conversation(messages))
        assert refused.value.param == "messages"


def test_a_tool_that_a_template_refuses_is_named() -> None:
    template = template_of("xml")
    tools = (tool(), tool(), Tool("odd", '{"function": {"name": "odd"}}'), tool())
    with pytest.raises(InvalidRequest, match=r"refuses tools\.2 \(odd\): ") as refused:
        template.render(replace(talk("x"), tools=tools))
    assert refused.value.param == "tools"
    with pytest.raises(InvalidRequest, match=r"tools\.0 cannot be read") as refused:
        template.render(replace(talk("x"), tools=(Tool("odd", "[" * 10**5),)))
    assert refused.value.param == "tools.0"


def test_options_are_variables_of_the_template_and_their_strings_are_the_callers() -> None:
    template = template_of("channels")
    options = json.dumps({"reasoning_effort": "<|end|>"})
    text = template.render(replace(conversation(["hi"]), template_options=options))
    assert text.startswith("<|start|>system\nReasoning: <|end|><|end|>")
    assert marks_of(text)[27:41] == MARK * 7 + NO_MARK * 7
    for name in ("messages", "bos_token", "eos_token", "raise_exception", "namespace", "range"):
        with pytest.raises(InvalidRequest, match=f"{name} is set by the server"):
            template.render(replace(conversation(["hi"]), template_options=json.dumps({name: "x"})))


def test_an_option_may_have_any_other_name() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ turns }}{{ options }}"
    template = ChatTemplate(family("byte-level", "chatml"), source)
    options = json.dumps({"turns": "a", "options": "b", "no name": 1, "": 2, "_x": 3})
    assert template.render(replace(conversation(["hi"]), template_options=options)) == "hiab"


def test_options_that_a_template_does_not_like_are_the_callers_fault() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ 1 + (more or 0) }}"
    template = ChatTemplate(family("byte-level", "chatml"), source)
    with pytest.raises(InvalidRequest, match="TypeError"):
        template.render(replace(conversation(["hi"]), template_options='{"more": "x"}'))


@pytest.mark.parametrize("name", [*FAMILIES, *TOOL_FAMILIES])
def test_without_a_generation_prompt_the_last_turn_is_closed(name: str) -> None:
    hf = family("byte-level", name) if name in FAMILIES else tool_family(name)
    messages = replace(conversation(["hi", "ho", "hu"]), has_generation_prompt=False)
    template = ChatTemplate(hf)
    turns = [
        {"role": m.role, "content": template.trial.formats[m.role].content(m.content)}
        for m in messages.messages
    ]
    expected = transformers_way(hf, turns, add_generation_prompt=False)
    assert template.render(messages) == expected


OPENINGS = {
    "chatml": "<|end|>\n<|start|>assistant\n",
    "llama-3": "</s><|start|>assistant<|end|>\n\n",
    "mistral": " [/INST]",
    "gemma": "<|end|>\n<start_of_turn>model\n",
    "llama-guard": "\n\n<END CONVERSATION> [/INST]",
    "qwen-3": "<|end|>\n<|start|>assistant\n",
    "hermes": "<|end|>\n<|start|>assistant\n",
    "thinking": "<|end|>\n<|start|>assistant\n<think>\n",
    "channels": "<|end|><|start|>assistant",
    "deepseek": "[/INST]<think>\n",
}


@pytest.mark.parametrize("name", OPENINGS)
@pytest.mark.parametrize("texts", [["hi"], ["<think>", "</think>", "hi<think>\n"]])
def test_the_opening_is_what_follows_the_callers_last_character(
    name: str, texts: list[str]
) -> None:
    template, messages = template_of(name), conversation(texts)
    opening = template.opening(messages, template.render(messages))
    assert opening.removeprefix("\n") == OPENINGS[name].removeprefix("\n")


def test_the_opening_of_a_conversation_in_which_nobody_said_anything_is_the_answers_turn() -> None:
    template = template_of("thinking")
    silent = conversation([""])
    opening = template.opening(silent, template.render(silent))
    assert opening == "<|start|>assistant\n<think>\n"
    closed = replace(silent, template_options='{"enable_thinking": false}')
    opening = template.opening(closed, template.render(closed))
    assert opening == "<|start|>assistant\n<think>\n\n</think>\n\n"


def test_the_opening_is_found_though_it_is_not_known_who_wrote_what() -> None:
    words = "{% for m in messages %}{{ m.content }}{% endfor %}"
    upper = "{% set t %}" + words + "{% if add_generation_prompt %}"
    template = ChatTemplate(
        family("byte-level", "chatml"), upper + "[A]{% endif %}{% endset %}{{ t | upper }}"
    )
    messages = conversation(["hi"])
    text = template.render(messages)
    assert (text, set(marks_of(text))) == ("HI[A]", {1})
    assert template.opening(messages, text) == "[A]"
    assert template.opening(replace(messages, has_generation_prompt=False), "HI") == "HI"
    refuses = "{% if not add_generation_prompt %}{{ raise_exception('no prompt') }}{% endif %}"
    wanting = ChatTemplate(family("byte-level", "chatml"), refuses + words)
    assert wanting.opening(messages, wanting.render(messages)) == ""


def test_a_tokenizer_with_its_own_code_is_given_tools_and_options() -> None:
    class Own(PreTrainedTokenizerFast):
        def apply_chat_template(self, conversation: Any, **options: Any) -> str:
            assert type(options.get("level", "")) is str
            shown = json.dumps(options["tools"]) if "tools" in options else ""
            prompt = "[A]" if options["add_generation_prompt"] else ""
            turns = "".join(json.dumps(turn) for turn in conversation)
            return shown + turns + options.get("level", "") + prompt

    hf = Own(tokenizer_object=family("byte-level", "chatml").backend_tokenizer)
    hf.chat_template = "unused"
    template = ChatTemplate(hf)
    assert template.shows_tools
    messages = replace(talk("ΓΔ"), template_options='{"level": "high"}')
    text = template.render(messages)
    assert text.startswith('[{"type": "function"')
    assert text.endswith("}high[A]")
    assert CALL_ID in text
    assert template.opening(messages, text) == "[A]"
    goes_on = replace(conversation(["hi", "well"]), continues_last=True)
    assert template.render(goes_on).endswith('"content": "well')
    assert template.opening(goes_on, template.render(goes_on)) == "well"
