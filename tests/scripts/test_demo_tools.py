"""The part of the demo model's corpus that teaches it tools and JSON."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from demo_corpus import names
from demo_corpus.dialogues import read_faq
from demo_corpus.echoes import write_echo
from demo_corpus.fillings import write_filling
from demo_corpus.measures import HELD_OUT_PROPERTIES, PROPERTIES
from demo_corpus.tool_dialogues import double_round_trip, round_trip, write_tool_dialogue
from demo_corpus.tool_kinds import HELD_OUT_LOOK_UP, KINDS
from demo_corpus.tools import draw_tool, draw_tools

FAQ = read_faq()


def dialogues(count: int = 300) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]] | None]]:
    rng = random.Random(5)
    return [write_tool_dialogue(rng, FAQ) for _ in range(count)]


def test_the_corpus_depends_on_the_seed_alone() -> None:
    assert dialogues(20) == dialogues(20)
    fillings = [write_filling(random.Random(seed)) for seed in (1, 1, 2)]
    assert fillings[0] == fillings[1] != fillings[2]


def test_every_call_is_of_a_given_tool_with_all_its_required_arguments() -> None:
    num_calls = 0
    for messages, tools in dialogues():
        given = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools or []}
        for message in messages:
            for call in message.get("tool_calls", ()):
                parameters = given[call["function"]["name"]]
                arguments = call["function"]["arguments"]
                assert set(parameters.get("required", ())) <= set(arguments)
                assert set(arguments) <= set(parameters["properties"])
                num_calls += 1
    assert num_calls > 200


def test_what_is_called_with_stands_in_the_question() -> None:
    for messages, _ in dialogues():
        said = ""
        for message in messages:
            said = message["content"] if message["role"] == "user" else said
            for call in message.get("tool_calls", ()):
                for value in call["function"]["arguments"].values():
                    assert str(value).lower() in said.lower()


def test_each_call_has_its_result() -> None:
    for messages, _ in dialogues():
        calls = sum(len(message.get("tool_calls", ())) for message in messages)
        assert calls == sum(message["role"] == "tool" for message in messages)


def test_tools_of_one_conversation_have_names_of_their_own() -> None:
    rng = random.Random(1)
    for _ in range(200):
        tools = draw_tools(rng, draw_tool(rng), 4)
        assert len({tool.name for tool in tools}) == 4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.nouns[0])
def test_every_wording_of_a_kind_can_be_filled(kind: Any) -> None:
    rng = random.Random(2)
    for _ in range(60):
        while (tool := draw_tool(rng, share_of_properties=0)).kind is not kind:
            pass
        trip = round_trip(rng, tool, tool.draw(rng))
        if kind.pairs:
            trip += double_round_trip(rng, tool, (tool.draw(rng), tool.draw(rng)))
        for message in trip:
            if message["role"] == "tool" and message["content"].startswith("{"):
                assert isinstance(json.loads(message["content"]), dict)
            elif message["content"]:
                assert "{" not in message["content"]


def test_training_never_sees_what_is_held_out() -> None:
    told = repr(dialogues(600)) + repr([write_filling(random.Random(i)) for i in range(600)])
    verbs = [verb + "_" for verb in HELD_OUT_LOOK_UP]
    held_out = [*names.HELD_OUT_CITIES, *names.HELD_OUT_PEOPLE, *HELD_OUT_PROPERTIES, *verbs]
    assert [word for word in held_out if word in told] == []


def test_nothing_is_both_learned_and_held_out() -> None:
    assert not set(names.CITIES) & set(names.HELD_OUT_CITIES)
    assert not set(names.PEOPLE) & set(names.HELD_OUT_PEOPLE)
    assert not set(names.THINGS) & set(names.HELD_OUT_THINGS)
    assert not set(PROPERTIES) & set(HELD_OUT_PROPERTIES)
    for kind in KINDS:
        assert not set(kind.nouns) & set(kind.held_out_nouns)


def test_an_echo_is_the_end_of_its_request() -> None:
    rng = random.Random(3)
    for _ in range(200):
        request, answer = write_echo(rng)
        assert request.endswith(answer)


def test_a_filling_is_one_line_of_json_with_words_of_the_request() -> None:
    rng = random.Random(4)
    for i in range(500):
        request, filled = write_filling(rng, held_out=i % 2 == 0)
        assert filled == json.dumps(json.loads(filled))
        for field, value in json.loads(filled).items():
            assert field in request
            assert str(value) in request
