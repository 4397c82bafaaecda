"""Messages to turns: nothing is lost, and what callers wrote is theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tool_talk import CALL_ID, call

from llmserve.domain import Conversation, Message
from llmserve.text.content_format import ContentFormat
from llmserve.text.taint import CONTINUED, is_tainted, marks_of, untainted
from llmserve.text.turn_forms import CallForm, NoContent, TurnForms
from llmserve.text.turns import Turn, Turns

FORMATS = dict.fromkeys(("user", "system", "assistant", "tool"), ContentFormat.STRING)
NATIVE = TurnForms(FORMATS, shows_tools=True, calls=CallForm(), takes_results=True)
GENERIC = TurnForms(FORMATS)
USER = Message("user", "Where?")
RESULT = Message("tool", "there", tool_call_id=CALL_ID)


def turns(
    forms: TurnForms, *messages: Message, tools: tuple[Any, ...] = (), **fields: Any
) -> list[Turn]:
    return Turns(Conversation(messages, **fields), forms, tools).turns


def arguments(form: CallForm, text: str) -> Any:
    message = Message("assistant", "", tool_calls=(call(text),))
    [turn] = turns(replace(NATIVE, calls=form), message)
    assert is_tainted(turn["tool_calls"][0]["function"]["arguments"]) or text.strip() in ("", "{}")
    return turn["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize(
    ("text", "as_object", "as_text", "wrapped"),
    [
        ('{"a": ["b"]}', {"a": ["b"]}, '{"a": ["b"]}', {"a": ["b"]}),
        ("", {}, "{}", {}),
        (" ", {}, "{}", {}),
        ("{}", {}, "{}", {}),
        ('{"a": ', '{"a": ', '{"a": ', {"arguments": '{"a": '}),
        ("[1]", "[1]", "[1]", {"arguments": "[1]"}),
        ("null", "null", "null", {"arguments": "null"}),
        ('{"a":' * 10**5, '{"a":' * 10**5, '{"a":' * 10**5, {"arguments": '{"a":' * 10**5}),
        ("9" * 5000, "9" * 5000, "9" * 5000, {"arguments": "9" * 5000}),
    ],
)
def test_arguments_are_given_as_the_template_takes_them(
    text: str, as_object: Any, as_text: str, wrapped: Any
) -> None:
    assert arguments(CallForm(), text) == as_object
    assert arguments(CallForm(takes_text=True), text) == as_text
    assert arguments(CallForm(wraps_text=True), text) == wrapped


@pytest.mark.parametrize(
    ("no_content", "has"),
    [
        (NoContent.ABSENT, {}),
        (NoContent.EMPTY, {"content": ""}),
        (NoContent.NULL, {"content": None}),
    ],
)
def test_a_turn_that_only_calls_has_the_content_that_the_template_wants(
    no_content: NoContent, has: dict[str, Any]
) -> None:
    forms = replace(NATIVE, calls=CallForm(no_content=no_content))
    [turn] = turns(forms, Message("assistant", "", tool_calls=(call(),)))
    function = {"name": "find", "arguments": {"place": "here"}}
    calls = [{"id": CALL_ID, "type": "function", "function": function}]
    assert untainted(turn) == {"role": "assistant", "tool_calls": calls} | has


def test_where_content_hides_calls_they_have_a_turn_of_their_own() -> None:
    calling = Message("assistant", "I look.", reasoning="hm", tool_calls=(call(),))
    [turn] = turns(NATIVE, calling)
    assert (turn["content"], turn["reasoning_content"], len(turn["tool_calls"])) == (
        "I look.",
        "hm",
        1,
    )
    split = replace(NATIVE, calls=CallForm(splits=True, no_content=NoContent.NULL))
    made = Turns(Conversation((USER, calling, RESULT)), split, ())
    assert made.origins == [0, 1, 1, 2]
    assert [set(turn) - {"role"} for turn in made.turns[1:3]] == [
        {"content", "reasoning_content"},
        {"content", "tool_calls"},
    ]


def test_a_result_has_the_name_of_its_call_unless_it_has_one() -> None:
    other = replace(call(call_id="other"), name="seek")
    calling = Message("assistant", "", tool_calls=(call(), other))
    results = (
        RESULT,
        replace(RESULT, tool_call_id="other"),
        replace(RESULT, name="mine"),
        replace(RESULT, tool_call_id="nobody's"),
        replace(RESULT, tool_call_id=None),
    )
    made = turns(NATIVE, calling, *results)[1:]
    assert [turn.get("name") for turn in made] == ["find", "seek", "mine", None, None]
    assert [turn.get("tool_call_id") for turn in made] == [
        *(CALL_ID, "other", CALL_ID, "nobody's", None)
    ]


def test_ids_become_short_in_the_same_way_everywhere() -> None:
    forms = replace(NATIVE, calls=CallForm(has_short_ids=True))
    long = "call_0123456789"
    calling = Message("assistant", "", tool_calls=(call(call_id=long), call()))
    first, result = turns(forms, calling, replace(RESULT, tool_call_id=long))
    short = first["tool_calls"][0]["id"]
    assert len(short) == 9
    assert short.isalnum()
    assert result["tool_call_id"] == short
    assert result["name"] == "find"
    assert first["tool_calls"][1]["id"] == CALL_ID, "one that is short stays"


def test_a_developer_is_the_system_where_the_template_knows_none() -> None:
    message = Message("developer", "Be brief.")
    assert [turn["role"] for turn in turns(NATIVE, message)] == ["system"]
    knowing = replace(NATIVE, knows_developer=True)
    assert [turn["role"] for turn in turns(knowing, message)] == ["developer"]


def test_reasoning_has_its_usual_name_and_the_templates() -> None:
    thinking = Message("assistant", "a", reasoning="hm")
    [turn] = turns(NATIVE, thinking)
    assert untainted(turn) == {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    [turn] = turns(replace(NATIVE, reasoning_key="thinking"), thinking)
    assert (turn["reasoning_content"], turn["thinking"]) == ("hm", "hm")
    [turn] = turns(replace(NATIVE, reasoning_key="thinking"), Message("assistant", "a"))
    assert set(turn) == {"role", "content"}


def test_calls_and_results_are_words_in_the_generic_form() -> None:
    calling = Message("assistant", "I look.", tool_calls=(call(), call("{oops")))
    made = Turns(Conversation((USER, calling, RESULT, RESULT, USER)), GENERIC, ())
    assert [turn["role"] for turn in made.turns] == ["user", "assistant", "user", "user"]
    assert made.origins == [0, 1, 2, 4]
    assert made.turns[1]["content"] == (
        'I look.\n<tool_call>\n{"name": "find", "arguments": {"place": "here"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "find", "arguments": "{oops"}\n</tool_call>'
    )
    assert made.turns[2]["content"] == (
        "<tool_response>\nthere\n</tool_response>\n<tool_response>\nthere\n</tool_response>"
    )
    marks = marks_of(made.turns[2]["content"])
    assert marks == (bytes(16) + b"\1" * 5 + bytes(34)) + b"\1" * 5 + bytes(17)


@pytest.mark.parametrize(
    ("roles", "takes_system", "expected", "place"),
    [
        (("user",), True, ["system", "user"], 0),
        (("system", "user"), True, ["system", "user"], 0),
        (("developer", "user"), True, ["system", "user"], 0),
        (("assistant", "system"), True, ["system", "assistant", "system"], 0),
        (("user",), False, ["user"], 0),
        (("assistant", "user", "user"), False, ["assistant", "user", "user"], 1),
        (("assistant",), False, ["user", "assistant"], 0),
    ],
)
def test_tools_are_listed_in_front_of_everything(
    roles: tuple[Any, ...], takes_system: bool, expected: list[str], place: int
) -> None:
    messages = [Message(role, f"words {i}") for i, role in enumerate(roles)]
    forms = replace(GENERIC, takes_system=takes_system)
    made = Turns(Conversation(tuple(messages)), forms, [{"name": "find"}])
    assert [turn["role"] for turn in made.turns] == expected
    assert len(made.origins) == len(made.turns)
    text = made.turns[place]["content"]
    assert '<tools>\n{"name": "find"}\n</tools>' in text
    said = [turn["content"].split("\n\n")[-1] for turn in made.turns]
    assert [words for words in said if words.startswith("words")] == [m.content for m in messages]


def test_what_the_answer_continues_has_a_mark_of_its_own() -> None:
    last = Message("assistant", "So", name="Ann", reasoning="hm")
    user, turn = turns(NATIVE, USER, last, continues_last=True)
    assert set(marks_of(user["content"])) == {1}
    for key in ("content", "name", "reasoning_content"):
        assert set(marks_of(turn[key])) == {CONTINUED[0]}


def test_contents_have_their_roles_format() -> None:
    forms = replace(GENERIC, formats=FORMATS | {"user": ContentFormat.OPENAI})
    made = turns(forms, USER, Message("assistant", "a"), RESULT)
    assert made[0]["content"] == [{"type": "text", "text": "Where?"}]
    assert made[1]["content"] == "a"
    assert made[2]["content"][0]["text"].startswith("<tool_response>")


def test_many_results_are_joined_in_one_go() -> None:
    [turn] = turns(GENERIC, *[RESULT] * 5000)
    assert turn["content"].count("</tool_response>") == 5000
