"""Callers share the engine by weight, whoever sends more."""

from __future__ import annotations

from collections import Counter

from llmserve.engines.batching.schedule.fair_share import FairShare
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence


def served(weights: dict[str, int], steps: int = 300) -> Counter[str]:
    """Answer tokens by caller, while each has ten requests waiting at all times."""
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=40, max_sequences=4)
    number, tokens, alive = 0, Counter[str](), []
    for _ in range(steps):
        for caller, weight in weights.items():
            while sum(1 for s in alive if s.caller == caller) < 10:
                number += 1
                sequence = Sequence([number, number + 1, 3], 3, caller, weight)
                it.add(sequence)
                alive.append(sequence)
        plan = it.plan()
        it.commit(plan, [1] * sum(part.is_sampled for part in plan.slices))
        for sequence in [s for s in alive if s.num_tokens - s.num_prompt >= 8]:
            tokens[sequence.caller] += 8
            alive.remove(sequence)
            it.remove(sequence)
    return tokens


def test_equal_callers_get_the_same() -> None:
    tokens = served({"a": 1, "b": 1})
    assert 0.9 < tokens["a"] / tokens["b"] < 1.1


def test_a_caller_gets_what_its_weight_says() -> None:
    tokens = served({"a": 1, "b": 3})
    assert 2.5 < tokens["b"] / tokens["a"] < 3.5


def test_one_request_passes_a_crowd_of_another_caller() -> None:
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=40, max_sequences=2)
    crowd = [Sequence([n, 2], 2, "crowd") for n in range(50)]
    for sequence in crowd:
        it.add(sequence)
    for _ in range(4):
        plan = it.plan()
        it.commit(plan, [1] * len(plan.slices))
    single = Sequence([99, 2], 2, "single")
    it.add(single)
    for gone in crowd[:2]:  # two places become free, one after the other
        it.remove(gone)
        plan = it.plan()
        it.commit(plan, [1] * len(plan.slices))
    assert single in {part.sequence for part in plan.slices}


def test_being_away_earns_no_credit_and_costs_no_memory() -> None:
    shares = FairShare()
    shares.enter("busy")
    shares.charge("busy", 1, 1000, 0)
    shares.enter("new")
    assert shares.served("new") == shares.served("busy")
    shares.leave("new")
    assert shares.num_callers == 1
    shares.charge("busy", 1, 1000, 0)
    shares.enter("new")
    assert shares.served("new") == 2000
