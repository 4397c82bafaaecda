"""From requests to tasks: what is refused, and which rules a task gets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from bounded import run
from engines.rules.vocabulary import allowed, forbidden
from small_bpe import trained_bpe
from transformers import PreTrainedTokenizerFast

from llmserve.clock import awake_clock
from llmserve.domain import (
    AnswerRules,
    Caller,
    EngineInfo,
    EngineKind,
    GenerationRequest,
    ModelSpec,
    SamplingFields,
)
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.task import TokenTask
from llmserve.engines.task_builder import TaskBuilder
from llmserve.errors import InvalidRequest, ModelUnloaded
from llmserve.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("no_thread_left")

VOCAB = 352
"""Of the small tokenizer, and a few more."""


class Counting(Tokenizer):
    """Tells on which threads bare texts were encoded."""

    def __init__(self) -> None:
        hf = PreTrainedTokenizerFast(tokenizer_object=trained_bpe())
        super().__init__(hf, num_embeddings=VOCAB)
        self.threads: list[str] = []

    def encode_bare(self, text: str) -> list[int]:
        self.threads.append(threading.current_thread().name)
        return super().encode_bare(text)


def tasks_of(
    *wanted: SamplingFields,
    rules: AnswerRules | None = None,
    operator: SamplingFields | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[TokenTask]:
    """One for each of a request's choices."""
    info = EngineInfo(
        kind=EngineKind.THREADED,
        why="a test wants it",
        device="cpu",
        dtype="float32",
        max_context=50,
        parameters=1,
        weight_bytes=4,
        rules=rules or AnswerRules(),
        eos_ids=(2,),
    )
    spec = ModelSpec("m", sampling=operator or SamplingFields())
    tasks: list[TokenTask] = []

    async def build() -> None:
        pool = PreparationPool("m")
        builder = TaskBuilder(spec, tokenizer or Counting(), info, pool, awake_clock)
        requests = [GenerationRequest("r", "the fox", sampling=fields) for fields in wanted]
        try:
            tasks.extend(
                await builder.build(requests, Caller(), awake_clock() + 60, lambda: lambda: None)
            )
        finally:
            pool.close(ModelUnloaded("over"))

    run(build)
    return tasks


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop_token_ids": (5, VOCAB)}, "stop_token_ids"),
        ({"allowed_token_ids": (VOCAB,)}, "allowed_token_ids"),
        ({"allowed_token_ids": (4, 5)}, "allowed_token_ids"),
        (
            {"allowed_token_ids": (4, 2, 7), "stop_token_ids": (7,), "min_tokens": 1},
            "allowed_token_ids",
        ),
        ({"thinking_budget": 5}, "thinking_token_budget"),
    ],
)
def test_what_cannot_be_served_is_refused_by_the_fields_name(
    fields: dict[str, Any], param: str
) -> None:
    rules = AnswerRules(suppressed=(4, 5))
    with pytest.raises(InvalidRequest) as refused:
        tasks_of(SamplingFields(**fields), rules=rules)
    assert refused.value.param == param


def test_only_ends_may_be_allowed_where_an_answer_may_be_empty() -> None:
    [task] = tasks_of(SamplingFields(allowed_token_ids=(2,)))
    assert task.new_rule is not None
    assert allowed(task.new_rule(), VOCAB) == {2}


def test_a_request_without_rules_has_none() -> None:
    [task] = tasks_of(SamplingFields(stop_token_ids=(5,), bad_words=()))
    assert task.new_rule is None
    assert task.shown_tokens == frozenset()


def tokens_of(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    return [Tokenizer.encode_bare(tokenizer, word) for word in words]


def test_bad_words_of_the_request_and_of_the_model_are_never_completed() -> None:
    tokenizer = Counting()
    [bare, spaced] = tokens_of(tokenizer, ["fox", " fox"])
    assert (len(bare), len(spaced)) == (2, 1)
    [task] = tasks_of(
        SamplingFields(bad_words=("fox",)),
        rules=AnswerRules(banned=((3, 4),)),
        tokenizer=tokenizer,
    )
    assert task.new_rule is not None
    rule = task.new_rule()
    assert forbidden(rule, VOCAB) == {spaced[0]}
    rule.accept(bare[0])
    assert forbidden(rule, VOCAB) == {spaced[0], bare[1]}
    rule.accept(3)
    assert forbidden(rule, VOCAB) == {spaced[0], 4}
    assert forbidden(task.new_rule(), VOCAB) == {spaced[0]}, "each answer begins anew"


def test_of_the_allowed_tokens_the_bad_ones_are_not_allowed() -> None:
    tokenizer = Counting()
    [[fox]] = tokens_of(tokenizer, [" fox"])
    [task] = tasks_of(SamplingFields(bad_words=("fox",), allowed_token_ids=(3, fox)))
    assert task.new_rule is not None
    assert allowed(task.new_rule(), VOCAB) == {3}


def test_the_operators_bad_words_hold_where_a_request_names_none() -> None:
    operator = SamplingFields(bad_words=("fox",), stop_token_ids=(7,))
    own, none = tasks_of(SamplingFields(), SamplingFields(bad_words=()), operator=operator)
    assert own.new_rule is not None
    assert own.sampling.stop_token_ids == (7,)
    assert none.new_rule is None


def test_the_words_of_all_choices_are_encoded_once_and_off_the_event_loop() -> None:
    once, thrice = Counting(), Counting()
    tasks_of(SamplingFields(bad_words=("fox",)), tokenizer=once)
    tasks_of(*[SamplingFields(bad_words=("fox",), seed=i) for i in range(3)], tokenizer=thrice)
    assert len(thrice.threads) == len(once.threads) > 0
    assert all(name.startswith("generate-prepare-m") for name in once.threads + thrice.threads)
