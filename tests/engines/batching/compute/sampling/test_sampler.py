"""Every row by its own parameters, equal to transformers' processors one at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.sampling import sampler, torch_sampler
from llmserve.engines.batching.compute.sampling.adjustments import adjust
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.sampler import sample

VOCAB = 3000
PROMPT = (5, 6, 7, 5)
EOS = (2, 3)


def row(vocab: int = VOCAB, **params: object) -> RowState:
    wanted = SamplingParams(**{"temperature": 0.0} | params)  # type: ignore[arg-type]
    return RowState(wanted, PROMPT, EOS, vocab, torch.device("cpu"))


def logits(rows: int = 1, vocab: int = VOCAB, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def tokens(scores: torch.Tensor, rows: list[RowState]) -> list[int | None]:
    return [choice.token_id for choice in sample(scores.clone(), rows)]


def test_logits_that_are_no_numbers_fail_their_row_only() -> None:
    scores = logits(4)
    scores[1, 7] = math.nan
    scores[2] = -math.inf
    chosen = tokens(scores, [row(), row(temperature=1.0, seed=1), row(), row(top_p=0.5)])
    assert chosen[1] is None
    assert chosen[2] is None
    assert chosen[0] == int(scores[0].argmax())
    assert chosen[3] == int(scores[3].argmax())


def test_greedy_and_sampled_rows_mix() -> None:
    scores = logits(3)
    alone = tokens(scores[1:2], [row(temperature=0.7, seed=4)])
    mixed = tokens(scores, [row(), row(temperature=0.7, seed=4), row()])
    assert mixed == [int(scores[0].argmax()), *alone, int(scores[2].argmax())]


def test_a_step_that_fails_and_is_tried_again_draws_and_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {"temperature": 1.0, "seed": 3, "frequency_penalty": 1.0, "min_tokens": 4}
    steps = [logits(seed=number) for number in range(4)]

    def answer(failing: int) -> list[int | None]:
        subject = row(**params, logprobs=2)
        made = []
        for number, scores in enumerate(steps):
            if number == failing:
                with monkeypatch.context() as patch:
                    patch.setattr(sampler.WantedLogprobs, "of", out_of_memory)
                    with pytest.raises(torch.OutOfMemoryError):
                        sample(scores.clone(), [subject])
            made += tokens(scores, [subject])
        return made

    def out_of_memory(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert answer(failing=1) == answer(failing=-1)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"top_k": 50},
        {"top_p": 0.8},
        {"top_p": 0.999, "temperature": 2.0},
        {"min_p": 0.01},
        {"top_k": 2000, "top_p": 0.95, "min_p": 0.001},
    ],
)
def test_a_seeded_row_draws_the_same_whatever_else_is_in_the_batch(
    params: dict[str, float],
) -> None:
    wanted = {"temperature": 1.0, "seed": 11} | params
    alone, crowded = row(**wanted), row(**wanted)
    others = [row(temperature=1.3, top_p=0.9), row(temperature=0.5, top_k=3), row()]
    for step in range(20):
        scores = logits(4, seed=step, scale=1.0)
        mine = tokens(scores[2:3], [alone])
        assert tokens(scores, [others[0], others[1], crowded, others[2]])[2] == mine[0]


def test_two_seeds_differ_and_no_seed_is_not_a_seed() -> None:
    scores = logits(scale=0.1)
    rows = [row(temperature=1.0, seed=1), row(temperature=1.0, seed=2)]
    rows += [row(temperature=1.0), row(temperature=1.0)]
    drawn = [tuple(tokens(scores, [each])[0] for _ in range(6)) for each in rows]
    assert len(set(drawn)) == len(drawn)


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "top_k": st.integers(1, 1500),
        "top_p": st.floats(0.01, 0.9999),
        "min_p": st.floats(1e-4, 0.9),
    },
)


@settings(deadline=None, max_examples=60)
@given(FILTERS, st.floats(0.2, 2.0), st.integers(0, 1000), st.floats(0.1, 6.0))
def test_filters_leave_what_transformers_leaves(
    filters: dict[str, float], temperature: float, seed: int, scale: float
) -> None:
    scores = logits(seed=seed, scale=scale)
    chain = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if "top_k" in filters:
        chain.append(TopKLogitsWarper(int(filters["top_k"])))
    if "top_p" in filters:
        chain.append(TopPLogitsWarper(filters["top_p"]))
    if "min_p" in filters:
        chain.append(MinPLogitsWarper(filters["min_p"]))
    left = chain(torch.tensor([[1]]), scores)[0].softmax(-1)
    each = row(temperature=temperature, seed=seed, **filters)
    for _ in range(5):
        (token,) = tokens(scores, [each])
        assert token is not None
        assert left[token] > 0, "a token that transformers would not draw"


@pytest.mark.slow
def test_draws_follow_the_distribution() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    for params in ({}, {"top_k": 4}, {"top_p": 1.0, "min_p": 0.001}):
        each = row(vocab=4, temperature=1.0, seed=3, **params)
        drawn = torch.tensor([tokens(scores, [each])[0] for _ in range(1500)])
        shares = torch.bincount(drawn, minlength=4) / 1500
        # Five standard deviations of a share.
        assert (shares - scores[0].exp()).abs().max() < 5 * math.sqrt(0.25 / 1500)


def test_more_candidates_are_looked_at_where_the_share_is_not_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat = torch.linspace(0.0, 0.01, VOCAB)[None]
    everything = [tokens(flat, [row(temperature=1.0, top_p=0.9, seed=s)])[0] for s in range(30)]
    monkeypatch.setattr(torch_sampler, "CANDIDATES", 16)
    few = [tokens(flat, [row(temperature=1.0, top_p=0.9, seed=s)])[0] for s in range(30)]
    assert few == everything
    assert len(set(few)) > 20


def adjusted(scores: torch.Tensor, *rows: RowState) -> torch.Tensor:
    result = scores.clone()
    adjust(result, rows)
    return result


def test_penalties_count_what_transformers_and_openai_count() -> None:
    scores = logits()
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([PROMPT]), scores.clone())
    torch.testing.assert_close(adjusted(scores, row(repetition_penalty=1.3)), expected)
    each = row(presence_penalty=1.0, frequency_penalty=0.5)
    assert torch.equal(adjusted(scores, each), scores), "of the prompt nothing counts"
    for token in (9, 9, 4):
        each.accept(token)
    changed = adjusted(scores, each)[0]
    assert changed[9] == pytest.approx(scores[0, 9] - 1.0 - 2 * 0.5)
    assert changed[4] == pytest.approx(scores[0, 4] - 1.0 - 0.5)


def test_a_token_of_prompt_and_answer_is_penalized_once() -> None:
    scores = logits()
    each = row(repetition_penalty=1.3, presence_penalty=0.25)
    for token in (PROMPT[0], 9):
        each.accept(token)
    seen = torch.tensor([[*PROMPT, 9]])
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen, scores.clone())
    expected[0, [PROMPT[0], 9]] -= 0.25
    torch.testing.assert_close(adjusted(scores, each), expected)


PENALTIES = st.fixed_dictionaries(
    {},
    optional={
        "repetition_penalty": st.sampled_from([0.0, 0.5, 1.2, 3.0]),
        "presence_penalty": st.sampled_from([-1.0, 0.5]),
        "frequency_penalty": st.sampled_from([-0.5, 1.0]),
        "logit_bias": st.sampled_from([((5, 3.0),), ((9, -100.0), (0, 1.5))]),
        "min_tokens": st.integers(0, 4),
    },
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(PENALTIES, st.lists(st.integers(0, 20), max_size=200)), min_size=1, max_size=5
    )
)
def test_rows_together_are_adjusted_as_each_alone(
    wanted: list[tuple[dict[str, object], list[int]]],
) -> None:
    scores = logits(len(wanted))
    rows = []
    for params, answer in wanted:
        rows.append(row(**params))
        for token in answer:
            rows[-1].accept(token)
    together = adjusted(scores, *rows)
    for index, each in enumerate(rows):
        alone = adjusted(scores[index : index + 1], each)
        torch.testing.assert_close(together[index : index + 1], alone)


def test_the_number_of_operations_does_not_depend_on_the_number_of_rows() -> None:
    def operations(count: int) -> int:
        rows = [
            row(repetition_penalty=1.1, frequency_penalty=0.1, logit_bias=((3, 1.0),), min_tokens=9)
            for _ in range(count)
        ]
        scores = logits(count)
        with Counted() as counted:
            adjust(scores, rows)
        return counted.operations

    assert operations(2) == operations(64) < 60


class Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def test_no_end_before_min_tokens_were_made() -> None:
    scores = torch.zeros(1, VOCAB)
    scores[0, 2] = 9.0
    each = row(min_tokens=2)
    assert [tokens(scores, [each])[0] for _ in range(3)][2] == 2
    each = row(min_tokens=2)
    assert 2 not in [tokens(scores, [each])[0] for _ in range(2)]


def test_a_stop_token_is_held_back_as_an_end_is_if_it_has_a_logit() -> None:
    scores = torch.zeros(1, VOCAB)
    scores[0, 9] = 9.0
    each = row(min_tokens=2, stop_token_ids=(9, VOCAB))
    assert 9 not in [tokens(scores, [each])[0] for _ in range(2)]
    assert tokens(scores, [each]) == [9]


def test_a_bias_forces_and_bans() -> None:
    scores = logits(2)
    best = int(scores[1].argmax())
    rows = [row(logit_bias=((17, 100.0),)), row(logit_bias=((best, -100.0),))]
    first, second = tokens(scores, rows)
    assert first == 17
    assert second not in (best, None)


def test_logprobs_are_the_models_own() -> None:
    scores = logits(3)
    rows = [row(), row(temperature=0.5, logit_bias=((17, 100.0),), logprobs=2), row(logprobs=0)]
    choices = sample(scores.clone(), rows)
    expected = scores.log_softmax(-1)
    assert choices[0].logprobs is None
    told = choices[1].logprobs
    assert told is not None
    assert told.token_id == 17
    assert told.logprob == pytest.approx(float(expected[1, 17]), rel=1e-5)
    values, ids = expected[1].topk(2)
    assert [i for i, _ in told.top] == ids.tolist()
    assert [value for _, value in told.top] == pytest.approx(values.tolist(), rel=1e-5)
    assert choices[2].logprobs is not None
    assert choices[2].logprobs.top == ()
