"""Tokens are passed on once, and those of reasoning are counted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import TOOLS

from llmserve.domain import (
    Cancelled,
    Delta,
    Failed,
    Finish,
    FinishReason,
    Terminal,
    TokenLogprobs,
    Usage,
)
from llmserve.errors import InvalidRequest
from llmserve.text.output.answer_parser import AnswerParser
from llmserve.text.output.families import HARMONY, HERMES
from llmserve.text.output.new_parser import new_parser
from llmserve.text.output.syntax import OutputSyntax

THINK, END, CALL = 100, 101, 102


def a_parser(
    syntax: OutputSyntax = HERMES, opening: str = "", end: int | None = END
) -> AnswerParser:
    return new_parser(syntax, TOOLS, opening, random.Random(1), end)


def ended(parser: AnswerParser, tokens: int, reason: FinishReason = FinishReason.STOP) -> Usage:
    return parser.conclude(Finish(reason, Usage(5, tokens))).usage


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["<think>", "a", "</think>", "<tool", "_call>", "{", ""])))
def test_every_token_goes_out_with_its_delta_and_once(texts: list[str]) -> None:
    parser = a_parser()
    logprobs = [TokenLogprobs(i, -1.0) for i in range(len(texts))]
    out = [
        delta
        for i, text in enumerate(texts)
        for delta in parser.feed(Delta(text, (i,), (logprobs[i],)))
    ]
    assert [delta.token_ids for delta in out] == [(i,) for i in range(len(texts))]
    assert [delta.logprobs for delta in out] == [(logprob,) for logprob in logprobs]
    assert all(delta.token_ids == () for delta in parser.flush())


def test_what_has_nothing_to_say_is_no_delta() -> None:
    parser = a_parser()
    assert list(parser.feed(Delta("", ()))) == []
    assert list(parser.feed(Delta("Yes.", (1,)))) == [Delta("Yes.", (1,))]
    assert list(parser.flush()) == []


def test_text_is_held_back_only_while_it_may_be_a_delimiter() -> None:
    parser = a_parser()
    assert list(parser.feed(Delta("Yes <tool", (1,)))) == [Delta("Yes", (1,))]
    assert list(parser.feed(Delta("box", (2,)))) == [Delta(" <toolbox", (2,))]


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = a_parser()
    parser.feed(Delta('<tool_call>{"name": "weather", "arguments": ', (1,)))
    pieces = [
        call.arguments
        for text in ('{"ci', 'ty": "O', 'slo"', "}", "}")
        for delta in parser.feed(Delta(text, (1,)))
        for call in delta.calls
    ]
    assert pieces == ['{"ci', 'ty": "O', 'slo"', "}"]


def test_reasoning_is_counted_up_to_the_token_that_ends_it() -> None:
    parser = a_parser()
    parser.feed(Delta("<think>", (THINK,)))
    parser.feed(Delta("Hm.</think>Yes", (1, 2, END, 3, 4)))
    assert ended(parser, 9).reasoning_tokens == 4


def test_reasoning_whose_end_is_several_tokens_is_counted_up_to_the_delta_in_which_it_ends() -> (
    None
):
    parser = a_parser(end=None)
    parser.feed(Delta("<think>", (1, 2, 3)))
    parser.feed(Delta("Hm.</thi", (4, 5)))
    parser.feed(Delta("nk>", (6,)))
    parser.feed(Delta("Yes", (7,)))
    assert ended(parser, 8).reasoning_tokens == 6


def test_reasoning_that_the_prompt_opened_is_counted_from_the_first_token() -> None:
    parser = a_parser(opening="<|im_start|>assistant\n<think>\n")
    parser.feed(Delta("Hm.", (1, 2)))
    parser.feed(Delta("</think>", (END,)))
    parser.feed(Delta("Yes", (3,)))
    assert ended(parser, 5).reasoning_tokens == 3


def test_reasoning_begins_again_in_harmony() -> None:
    parser = a_parser(HARMONY, "<|start|>assistant")
    parser.feed(Delta("<|channel|>analysis<|message|>", (1, 2, 3)))
    parser.feed(Delta("Hm.", (4,)))
    parser.feed(Delta("<|end|>", (END,)))
    parser.feed(Delta("<|start|>assistant<|channel|>final<|message|>Yes", (5, 6, 7, 8)))
    assert ended(parser, 9).reasoning_tokens == 5


@pytest.mark.parametrize(
    "terminal",
    [
        Cancelled(Usage(5, 4)),
        Failed(InvalidRequest("no"), Usage(5, 4)),
        Finish(FinishReason.LENGTH, Usage(5, 4)),
        Finish(FinishReason.TIMEOUT, Usage(5, 4)),
    ],
)
def test_however_an_answer_ends_its_reasoning_is_counted(terminal: Terminal) -> None:
    parser = a_parser()
    parser.feed(Delta("<think>Hm", (1, 2)))
    parser.flush()
    concluded = parser.conclude(terminal)
    assert type(concluded) is type(terminal)
    assert concluded.usage == Usage(5, 4, 0, 4)


def test_an_answer_that_was_cut_in_a_call_ends_as_it_did() -> None:
    parser = a_parser()
    parser.feed(Delta('<tool_call>{"name": "ping", "arguments": {"a', (1,)))
    parser.flush()
    finish = Finish(FinishReason.LENGTH, Usage(5, 1))
    assert parser.conclude(finish) == finish


def test_without_reasoning_and_calls_the_end_is_unchanged() -> None:
    parser = a_parser()
    parser.feed(Delta("Yes.", (1,)))
    parser.flush()
    finish = Finish(FinishReason.STOP, Usage(5, 1))
    assert parser.conclude(finish) is finish
