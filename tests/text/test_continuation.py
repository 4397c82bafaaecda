"""An answer that goes on in the last message: the text ends where its words end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from chat_families import FAMILIES, family
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_families import TOOL_FAMILIES, template_of, tool_family
from tool_talk import talk

from llmserve.domain import Conversation, Message
from llmserve.errors import InvalidRequest
from llmserve.text.chat_template import ChatTemplate

USER = Message("user", "hi")
said = st.lists(
    st.sampled_from(["Well", " ", "\n", "<think>", "</think>", "<|end|>", ".", "é", "\n\n"]),
    max_size=6,
).map("".join)


def going_on(last: Message, *before: Message) -> Conversation:
    return Conversation((*(before or (USER,)), last), continues_last=True)


def transformers_way(name: str, messages: Conversation) -> str | None:
    """`None` if it is refused there."""
    hf = family("byte-level", name) if name in FAMILIES else tool_family(name)
    turns: list[dict[str, Any]] = [
        {"role": m.role, "content": template_of(name).trial.formats[m.role].content(m.content)}
        for m in messages.messages
    ]
    try:
        return str(hf.apply_chat_template(turns, tokenize=False, continue_final_message=True))
    except ValueError:
        return None


@pytest.mark.parametrize("name", sorted({*FAMILIES, *TOOL_FAMILIES} - {"wayward"}))
@settings(deadline=None, max_examples=25)
@given(text=said)
def test_a_message_is_left_open_as_with_transformers(name: str, text: str) -> None:
    template = template_of(name)
    messages = going_on(Message("assistant", text))
    expected = transformers_way(name, messages)
    if expected is None:
        with pytest.raises(InvalidRequest, match="cannot be continued") as refused:
            template.render(messages)
        assert refused.value.param == "messages.1"
    else:
        assert template.render(messages) == expected


def test_a_message_of_a_user_may_go_on_too() -> None:
    template = template_of("chatml")
    messages = going_on(Message("user", "Once upon"), USER, Message("assistant", "yes?"))
    assert template.render(messages).endswith("<|start|>user\nOnce upon")


def test_reasoning_goes_on_where_there_is_no_content() -> None:
    template = template_of("thinking")
    thinking = going_on(Message("assistant", "", reasoning="I should"))
    text = template.render(thinking)
    assert text.endswith("<|start|>assistant\n<think>\nI should")
    assert template.opening(thinking, text) == "<|end|>\n<|start|>assistant\n<think>\nI should"
    answering = going_on(Message("assistant", "So", reasoning="I should"))
    assert template.render(answering).endswith("<think>\nI should\n</think>\n\nSo")
    with pytest.raises(InvalidRequest, match="cannot be continued"):
        template_of("chatml").render(thinking)


def test_a_message_with_calls_cannot_go_on() -> None:
    user, calling, _ = talk("x").messages
    with pytest.raises(InvalidRequest, match="tool calls cannot be continued") as refused:
        template_of("hermes").render(going_on(calling, user))
    assert refused.value.param == "messages.1.tool_calls"


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("chatml", "<|end|>\n<|start|>assistant\n"),
        ("thinking", "<|end|>\n<|start|>assistant\n"),
        ("deepseek", "[/INST]"),
        ("llama-3", "</s><|start|>assistant<|end|>\n\n"),
        ("hermes", "<|end|>\n<|start|>assistant\n"),
    ],
)
@pytest.mark.parametrize("text", ["Well", "<think>\nWell", "a <|end|> b"])
def test_the_opening_has_all_of_the_turn_that_is_continued(
    name: str, opening: str, text: str
) -> None:
    template = template_of(name)
    messages = going_on(Message("assistant", text), USER, Message("assistant", "ho"), USER)
    assert template.opening(messages, template.render(messages)) == opening + text


def test_a_template_that_always_opens_a_thought_does_not_where_a_message_goes_on() -> None:
    template = template_of("thinking")
    fresh = Conversation((USER,))
    assert template.opening(fresh, template.render(fresh)).endswith("<think>\n")
    messages = going_on(Message("assistant", "Well"))
    assert "<think>" not in template.opening(messages, template.render(messages))


def test_a_result_in_the_generic_form_may_go_on() -> None:
    user, calling, result = talk("x").messages
    text = template_of("chatml").render(going_on(result, user, calling))
    assert text.endswith("<tool_response>\nx")


def test_what_follows_the_words_is_cut_off_even_if_the_template_adds_much() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}" + "[END]" * 99
    template = ChatTemplate(family("byte-level", "chatml"), source)
    assert template.render(going_on(Message("assistant", "ho"))) == "hiho"
    reply = replace(going_on(Message("assistant", "ho")), continues_last=False)
    assert template.render(reply) == "hiho" + "[END]" * 99


def test_a_template_that_writes_the_words_twice_keeps_nothing_of_the_tag() -> None:
    text = template_of("wayward").render(going_on(Message("assistant", "ho")))
    assert "CONTINUED" not in text
