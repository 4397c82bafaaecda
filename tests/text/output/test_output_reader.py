"""What a task is given of a model's syntax."""

from __future__ import annotations

import pytest
from marked_tokenizer import EOS, marked_tokenizer
from reading import TOOLS

from llmserve.domain import Delta, ToolChoice, ToolMode
from llmserve.errors import InvalidRequest
from llmserve.text.output import IdentityParser
from llmserve.text.output.choice import ChosenSyntax
from llmserve.text.output.families import HARMONY, HERMES, LLAMA_JSON
from llmserve.text.output.output_reader import OutputReader
from llmserve.text.output.syntax import OutputSyntax

CALLS = ("<tool_call>", "</tool_call>")
THINK = ("<think>", "</think>")
REQUIRED = ToolChoice(ToolMode.REQUIRED)


def a_reader(
    syntax: OutputSyntax = HERMES,
    special: tuple[str, ...] = (*CALLS, *THINK, "<other>"),
    plain: tuple[str, ...] = (),
) -> OutputReader:
    return OutputReader(ChosenSyntax(syntax, ""), marked_tokenizer(special, plain))


def test_only_special_tokens_that_are_delimiters_are_shown() -> None:
    hf = marked_tokenizer((*CALLS, *THINK, "<other>"), ())
    shown = hf.convert_ids_to_tokens(sorted(a_reader().shown_tokens()))
    assert shown == [*CALLS, *THINK]
    shown = hf.convert_ids_to_tokens(sorted(a_reader().shown_tokens(reads_calls=False)))
    assert shown == list(THINK)
    assert a_reader(special=(), plain=CALLS).shown_tokens() == frozenset()
    assert EOS not in shown


def test_every_marker_of_harmony_is_shown_with_and_without_tools() -> None:
    reader = a_reader(HARMONY, HARMONY.markers)
    assert len(reader.shown_tokens()) == len(HARMONY.markers)
    assert reader.shown_tokens(reads_calls=False) == reader.shown_tokens()


def test_reasoning_has_tokens() -> None:
    hf = marked_tokenizer((*CALLS, *THINK, "<other>"), ())
    reader = a_reader()
    assert reader.reasoning_start == (hf.convert_tokens_to_ids("<think>"),)
    assert reader.reasoning_end == (hf.convert_tokens_to_ids("</think>"),)
    assert reader.reasoning_closing == reader.reasoning_end
    assert len(a_reader(special=()).reasoning_end) == len("</think>")
    assert a_reader(LLAMA_JSON).reasoning_end == a_reader(LLAMA_JSON).reasoning_closing == ()


def test_reasoning_of_harmony_ends_where_the_final_channel_begins() -> None:
    reader = a_reader(HARMONY, HARMONY.markers)
    text = marked_tokenizer(HARMONY.markers, ()).decode(reader.reasoning_closing)
    assert text == "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert reader.reasoning_closing[-len(reader.reasoning_end) :] == reader.reasoning_end


def test_an_answer_starts_in_reasoning_if_its_prompt_opens_it() -> None:
    assert a_reader().starts_in_reasoning("<|im_start|>assistant\n<think>\n")
    assert not a_reader().starts_in_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not a_reader().starts_in_reasoning("<|im_start|>assistant\n")
    assert not a_reader(LLAMA_JSON).starts_in_reasoning("<think>")


def test_a_text_that_means_nothing_but_text_is_not_parsed() -> None:
    none = ToolChoice(ToolMode.NONE)
    assert a_reader(LLAMA_JSON).parser_factory(TOOLS, none, "") is IdentityParser
    assert a_reader(LLAMA_JSON).parser_factory((), ToolChoice(), "") is IdentityParser
    parser = a_reader().parser_factory(TOOLS, none, "")()
    (delta,) = parser.feed(Delta('<think>Hm</think><tool_call>{"name": ', (1,)))
    assert (delta.reasoning, delta.text) == ("Hm", '<tool_call>{"name":')


def test_each_answer_has_a_parser_and_ids_of_its_own() -> None:
    new = a_reader().parser_factory(TOOLS, ToolChoice(), "")
    call = Delta('<tool_call>{"name": "ping", "arguments": {}}</tool_call>', (1,))
    ids = {new().feed(call)[0].calls[0].id for _ in range(20)}
    assert len(ids) == 20
    seeded = a_reader().parser_factory(TOOLS, ToolChoice(), "", seed=3)
    assert seeded().feed(call) == seeded().feed(call)


def test_any_text_will_do_where_nothing_is_required() -> None:
    reader = a_reader()
    assert reader.grammar(TOOLS, ToolChoice()) is None
    assert reader.grammar(TOOLS, ToolChoice(ToolMode.NONE)) is None
    assert reader.grammar((), ToolChoice()) is None
    assert reader.grammar(TOOLS, ToolChoice(names=("ping", "weather"))) is None


def test_a_choice_of_some_tools_is_held() -> None:
    grammar = a_reader().grammar(TOOLS, ToolChoice(names=("ping",)))
    assert grammar is not None
    assert "weather" not in grammar
    assert "ping" in grammar


def test_a_call_of_nothing_cannot_be_required() -> None:
    with pytest.raises(InvalidRequest, match="there are no tools"):
        a_reader().grammar((), REQUIRED)
    with pytest.raises(InvalidRequest, match=r"names pong, and the tools are weather, ping"):
        a_reader().grammar(TOOLS, ToolChoice(ToolMode.REQUIRED, ("pong",)))


def test_one_call_at_most_is_a_grammar_though_none_must_be_made() -> None:
    reader = a_reader(HERMES, CALLS)
    free = reader.grammar(TOOLS, ToolChoice())
    once = reader.grammar(TOOLS, ToolChoice(is_parallel=False))
    assert free is None
    assert once is not None
    assert once != reader.grammar(TOOLS, ToolChoice(ToolMode.REQUIRED, is_parallel=False))
