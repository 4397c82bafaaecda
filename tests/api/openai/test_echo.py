"""The prompt before its completion: whole and streamed, with log probabilities and without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from scripted_generation import ScriptedGeneration
from small_bpe import trained_bpe
from transformers import PreTrainedTokenizerFast

from llmserve.api.openai.completion_writer import CompletionWriter
from llmserve.api.openai.echo import MOST_TOKENS
from llmserve.api.openai.logprobs import CompletionLogprobs
from llmserve.api.openai.shown import Shown
from llmserve.domain import (
    Delta,
    Event,
    Finish,
    FinishReason,
    PromptLogprobs,
    Started,
    TokenLogprobs,
    Usage,
)
from llmserve.service import Answer
from llmserve.text.spelling import Spelling
from llmserve.text.tokenizer import Tokenizer

FINISH = Finish(FinishReason.LENGTH, Usage(3, 1))
PROMPT = (104, 101, 121)  # hey
TOLD = (
    TokenLogprobs(101, -1.0, ((97, -0.25), (98, -0.5)), 4),
    TokenLogprobs(121, -0.5, ((121, -0.5), (98, -0.75)), 1),
)
BANG = TokenLogprobs(33, -0.125, ((33, -0.125), (98, -2.0)))
EVENTS: list[Event] = [
    Started(3),
    PromptLogprobs(TOLD[:1]),
    PromptLogprobs(TOLD[1:]),
    Delta("!", (33,), (BANG,)),
    FINISH,
]
ANSWER = Answer("!", (33,), FINISH, (BANG,), TOLD)


def writer(
    *,
    prompt: Sequence[int] = PROMPT,
    echoed: str | None = None,
    num_top: int | None = 1,
    count: int = 1,
    **shown: Any,
) -> CompletionWriter:
    generations = [ScriptedGeneration(prompt=prompt) for _ in range(count)]
    return CompletionWriter(
        generations,  # type: ignore[arg-type]
        choices_per_prompt=count,
        shown=Shown(logprobs=num_top is not None, **shown),
        num_top=num_top,
        echoed=[echoed],
    )


def streamed(completion: CompletionWriter, events: Sequence[Event]) -> list[dict[str, Any]]:
    frames = [frame for event in events for frame in completion.frames(0, event)]
    return [json.loads(frame.removeprefix(b"data: "))["choices"][0] for frame in frames]


def joined(choices: Sequence[dict[str, Any]]) -> tuple[str, dict[str, list[Any]]]:
    columns: dict[str, list[Any]] = {}
    for choice in choices:
        for name, values in (choice["logprobs"] or {}).items():
            columns.setdefault(name, []).extend(values)
    return "".join(choice["text"] for choice in choices), columns


WHOLE = {
    "tokens": ["h", "e", "y", "!"],
    "token_logprobs": [None, -1.0, -0.5, -0.125],
    "top_logprobs": [None, {"a": -0.25, "e": -1.0}, {"y": -0.5}, {"!": -0.125}],
    "text_offset": [0, 1, 2, 3],
}


def test_prompt_and_completion_are_one_text_with_one_list_of_log_probabilities() -> None:
    [choice] = writer().whole([ANSWER])["choices"]
    assert choice["text"] == "hey!"
    assert choice["logprobs"] == WHOLE


def test_a_stream_says_what_a_whole_answer_says() -> None:
    chunks = streamed(writer(), EVENTS)
    assert joined(chunks) == ("hey!", WHOLE)
    assert [chunk["text"] for chunk in chunks] == ["he", "y", "!", ""]


def test_a_long_prompt_comes_in_chunks() -> None:
    prompt = [97] * 200
    told = tuple(TokenLogprobs(97, -1.0, (), 1) for _ in prompt[1:])
    chunks = streamed(writer(prompt=prompt), [PromptLogprobs(told), FINISH])
    text, columns = joined(chunks)
    assert text == "a" * 200
    assert columns["text_offset"] == list(range(200))
    assert max(len(chunk["logprobs"]["tokens"]) for chunk in chunks[:-1]) <= MOST_TOKENS + 1


def test_without_log_probabilities_the_text_comes_at_once() -> None:
    chunks = streamed(writer(num_top=None), [Started(3), Delta("!", (33,)), FINISH])
    assert [(chunk["text"], chunk["logprobs"]) for chunk in chunks] == [
        ("hey", None),
        ("!", None),
        ("", None),
    ]
    [choice] = writer(num_top=None).whole([Answer("!", (33,), FINISH)])["choices"]
    assert (choice["text"], choice["logprobs"]) == ("hey!", None)


@pytest.mark.parametrize("num_top", [None, 0])
def test_a_prompt_without_an_answer_is_told_before_the_end(num_top: int | None) -> None:
    chunks = streamed(writer(prompt=PROMPT[:1], num_top=num_top), [Started(1), FINISH])
    text, columns = joined(chunks)
    assert text == "h"
    assert columns.get("token_logprobs", [None]) == [None]
    assert chunks[-1]["finish_reason"] == "length"
    [choice] = writer(prompt=PROMPT[:1], num_top=num_top).whole(
        [Answer("", (), FINISH, None if num_top is None else (), None if num_top is None else ())]
    )["choices"]
    assert joined([choice]) == (text, columns)


def test_every_choice_repeats_its_prompt() -> None:
    choices = writer(count=3).whole([ANSWER] * 3)["choices"]
    assert [choice["text"] for choice in choices] == ["hey!"] * 3
    assert [choice["logprobs"] for choice in choices] == [WHOLE] * 3


def test_tokens_may_be_named_by_their_ids_without_moving_the_text() -> None:
    [choice] = writer(tokens_as_ids=True).whole([ANSWER])["choices"]
    assert choice["logprobs"]["tokens"] == [f"token_id:{i}" for i in (*PROMPT, 33)]
    assert choice["logprobs"]["top_logprobs"][1] == {"token_id:97": -0.25, "token_id:101": -1.0}
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3]


def test_token_ids_are_told_of_prompt_and_answer() -> None:
    [choice] = writer(token_ids=True, num_top=None).whole([ANSWER])["choices"]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([104, 101, 121], [33])
    chunks = streamed(writer(token_ids=True), EVENTS)
    assert [chunk.get("prompt_token_ids") for chunk in chunks] == [
        [104, 101, 121],
        None,
        None,
        None,
    ]
    assert [chunk["token_ids"] for chunk in chunks] == [[], [], [33], []]


def test_a_token_whose_text_is_held_back_is_told_by_its_id() -> None:
    completion = writer(token_ids=True, num_top=None)
    chunks = streamed(completion, [Delta("", (195,)), Delta("é", (169,)), FINISH])
    assert [chunk["token_ids"] for chunk in chunks] == [[], [195], [169], []]


def test_the_best_answers_are_those_with_the_likeliest_tokens() -> None:
    def said(text: str, *logprobs: float) -> Answer:
        told = tuple(TokenLogprobs(97, logprob) for logprob in logprobs)
        return Answer(text, (97,) * len(told), Finish(FinishReason.STOP, Usage(3, 5)), told)

    answers = [said("a", -1, -3), said("b", -1, -1, -1, -1), said("c"), said("d", -0.5)]
    completion = CompletionWriter(
        [ScriptedGeneration() for _ in answers],  # type: ignore[arg-type]
        choices_per_prompt=4,
        shown=Shown(best=2, logprobs=False),
    )
    body = completion.whole(answers)
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "d"), (1, "b")]
    assert [choice["logprobs"] for choice in body["choices"]] == [None, None]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 20)


def test_prompt_logprobs_have_vllms_shape() -> None:
    [choice] = writer(num_top=None, prompt_logprobs=1).whole([ANSWER])["choices"]
    assert choice["prompt_logprobs"] == [
        None,
        {
            "101": {"logprob": -1.0, "rank": 4, "decoded_token": "e"},
            "97": {"logprob": -0.25, "rank": 1, "decoded_token": "a"},
        },
        {"121": {"logprob": -0.5, "rank": 1, "decoded_token": "y"}},
    ]


def test_what_json_cannot_say_is_a_very_small_number() -> None:
    impossible = TokenLogprobs(101, float("-inf"), ((97, 0.0),), 2)
    answer = Answer("", (), FINISH, (), (impossible,))
    [choice] = writer(prompt=PROMPT[:2], prompt_logprobs=0).whole([answer])["choices"]
    assert choice["prompt_logprobs"][1]["101"]["logprob"] == -9999.0
    assert choice["logprobs"]["token_logprobs"] == [None, -9999.0]
    json.dumps(choice, allow_nan=False)


def offsets(tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[int]:
    logprobs = CompletionLogprobs(tokenizer.spelling)
    logprobs.begin_echo(text)
    found = logprobs.body(ids)["text_offset"]
    logprobs.end_echo()
    assert logprobs.offset == len(text)
    return list(found)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    hf = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
    hf.add_special_tokens({"eos_token": "<|end|>"})
    return Tokenizer(hf)


@pytest.mark.parametrize("text", ["The fox", " The fox", "a<|end|>b", "🦊 fox é", "  x\n\ny "])
def test_tokens_lie_where_their_text_is(bpe: Tokenizer, text: str) -> None:
    ids = bpe.encode(text)
    places = offsets(bpe, text, ids)
    for token_id, start, end in zip(ids, places, [*places[1:], len(text)], strict=True):
        spelled = bpe.spelling(token_id).text
        assert "\ufffd" in spelled or text[start:end] == spelled


def test_a_leading_space_that_is_not_in_the_text_moves_nothing() -> None:
    spelled = {
        1: Spelling("<s>", b"<s>", is_in_text=False),
        2: Spelling(" The", b" The"),
        3: Spelling(" fox", b" fox"),
    }
    logprobs = CompletionLogprobs(lambda token_id: spelled[token_id])
    logprobs.begin_echo("The fox")
    assert logprobs.body([1, 2, 3])["text_offset"] == [0, 0, 3]
