"""What rules forbid, applied to a step's logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.sampling.masks import MaskThreads
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.sampling.sampler import sample
from llmserve.engines.token_rule import Words
from llmserve.errors import GenerationFailed

pytestmark = pytest.mark.usefixtures("no_thread_left")
VOCAB = 70
EOS = 1
CPU = torch.device("cpu")


class Only:
    def __init__(self, *allowed: int, fails: bool = False) -> None:
        self.allowed = allowed
        self.fails = fails
        self.is_idle = False
        self.seen: list[int] = []

    def restrict(self, words: Words) -> None:
        if self.fails:
            raise GenerationFailed("cannot go on")
        mine = np.zeros_like(words)
        for i in self.allowed:
            mine[i // 32] |= np.array(1 << i % 32).astype(np.uint32).astype(np.int32)
        words &= mine

    def accept(self, token_id: int) -> None:
        self.seen.append(token_id)


def row(rule: Only | None, **params: Any) -> RowState:
    wanted = SamplingParams(**{"temperature": 0.0, **params})
    return RowState(wanted, (1, 2), (EOS,), VOCAB, CPU, rule)


def chosen(rows: Sequence[RowState], logits: torch.Tensor | None = None) -> list[int | None]:
    threads = MaskThreads(CPU)
    try:
        if logits is None:
            logits = torch.arange(VOCAB, dtype=torch.float32).repeat(len(rows), 1)
        masks = threads.begin(rows)
        if masks is not None:
            masks.settle()
        return [token.token_id for token in sample(logits, rows, masks=masks)]
    finally:
        threads.close()


def test_a_rule_that_raises_accepts_nothing_and_the_step_can_be_tried_again() -> None:
    good, bad = Only(5), Only(6, fails=True)
    rows = [row(good, temperature=1.0, seed=1), row(bad)]
    with pytest.raises(GenerationFailed):
        chosen(rows)
    assert good.seen == bad.seen == []
    bad.fails = False
    assert chosen(rows) == [5, 6]
    assert (good.seen, bad.seen) == ([5], [6])


def test_a_step_without_rules_starts_no_thread() -> None:
    idle = Only(3)
    idle.is_idle = True
    threads = MaskThreads(CPU)
    assert threads.begin([row(None), row(idle)]) is None
    assert not threads._pool._threads
    threads.close()


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": ((5, -math.inf), (31, -math.inf), (64, -math.inf))},
        {"logit_bias": ((69, 1e9),)},
        {"min_tokens": 9},
        {"presence_penalty": 2.0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "top_k": 1, "min_p": 0.9},
        {},
    ],
)
def test_rows_with_and_without_rules_mix_and_rules_win(params: dict[str, Any]) -> None:
    rows = [row(Only(5, 31, 64), **params), row(None), row(Only(EOS), **params), row(Only(31))]
    assert chosen(rows) == [64, 69, EOS, 31]


def test_the_end_is_withheld_while_something_else_is_allowed() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, EOS] = 9
    assert chosen([row(Only(EOS, 7), min_tokens=3)], logits.clone()) == [7]
    assert chosen([row(Only(EOS, 7))], logits.clone()) == [EOS]


def test_tokens_beyond_the_vocabulary_are_forbidden() -> None:
    logits = torch.arange(VOCAB + 40, dtype=torch.float32)[None]
    assert chosen([row(Only(*range(64)))], logits) == [63]


def test_many_rows_share_the_threads() -> None:
    rows = [row(Only(index)) for index in range(40)]
    assert chosen(rows) == list(range(40))


def test_log_probabilities_are_the_models() -> None:
    threads = MaskThreads(CPU)
    rows = [row(Only(5), logprobs=0)]
    logits = torch.zeros(1, VOCAB)
    masks = threads.begin(rows)
    assert masks is not None
    (token,) = sample(logits, rows, masks=masks)
    threads.close()
    assert token.logprobs is not None
    assert token.logprobs.logprob == pytest.approx(-math.log(VOCAB))
