"""Callers share the engine by priority, whoever sends more."""

from __future__ import annotations

from collections import Counter

from llmserve.engines.batching.schedule.fair_share import FairShare
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence


def served(
    priorities: dict[str, int], answers: dict[str, int] | None = None, steps: int = 300
) -> Counter[str]:
    """Answer tokens by caller, while each has ten requests waiting at all times; an answer has
    eight tokens or as many as `answers` says."""
    lengths = dict.fromkeys(priorities, 8) | (answers or {})
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=40, max_sequences=4)
    number, tokens, alive = 0, Counter[str](), []
    for _ in range(steps):
        for caller, priority in priorities.items():
            while sum(1 for s in alive if s.caller == caller) < 10:
                number += 1
                sequence = Sequence([number, number + 1, 3], caller, priority)
                it.add(sequence)
                alive.append(sequence)
        plan = it.plan()
        it.commit(plan, [1] * sum(part.is_sampled for part in plan.slices))
        for sequence in [s for s in alive if s.num_tokens - 3 >= lengths[s.caller]]:
            tokens[sequence.caller] += lengths[sequence.caller]
            alive.remove(sequence)
            it.remove(sequence)
    return tokens


def test_equal_callers_get_the_same() -> None:
    tokens = served({"a": 1, "b": 1})
    assert 0.9 < tokens["a"] / tokens["b"] < 1.1


def test_a_caller_gets_what_its_priority_says() -> None:
    tokens = served({"a": 1, "b": 3})
    assert 2.5 < tokens["b"] / tokens["a"] < 3.5


def test_long_answers_are_not_cheaper_than_short_ones() -> None:
    tokens = served({"a": 1, "b": 1}, {"a": 8, "b": 24})
    assert 0.8 < tokens["b"] / tokens["a"] < 1.4


def test_a_prompt_read_in_pieces_is_charged_whole() -> None:
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=10, max_sequences=1)
    it.add(Sequence([1] * 40, "long"))
    for caller in ("long", "short"):
        for number in range(8):
            it.add(Sequence([number, 2, ord(caller[0])], caller))
    order: list[str] = []
    while len(order) < 6:
        plan = it.plan()
        it.commit(plan, [1] * sum(part.is_sampled for part in plan.slices))
        for part in plan.slices:
            if part.is_sampled:
                order.append(part.sequence.caller)
                it.remove(part.sequence)
    assert order == ["long"] + ["short"] * 5


def test_an_answer_token_costs_two_of_the_prompt() -> None:
    shares = FairShare()
    shares.enter("a")
    shares.charge("a", 2, 10, 5)
    assert shares.served("a") == 10


def test_one_request_passes_a_crowd_of_another_caller() -> None:
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=40, max_sequences=2)
    crowd = [Sequence([n, 2], "crowd") for n in range(50)]
    for sequence in crowd:
        it.add(sequence)
    for _ in range(4):
        plan = it.plan()
        it.commit(plan, [1] * len(plan.slices))
    single = Sequence([99, 2], "single")
    it.add(single)
    for gone in crowd[:2]:  # two places become free, one after the other
        it.remove(gone)
        plan = it.plan()
        it.commit(plan, [1] * len(plan.slices))
    assert single in {part.sequence for part in plan.slices}


def test_one_step_does_not_give_all_its_places_to_one_caller() -> None:
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=400, max_sequences=8)
    for caller in ("a", "b"):
        for number in range(8):
            it.add(Sequence([number, 2, ord(caller)], caller))
    assert Counter(part.sequence.caller for part in it.plan().slices) == {"a": 4, "b": 4}


def test_who_is_over_first_is_who_came_first_of_a_caller() -> None:
    it = Scheduler(num_blocks=400, block_size=4, max_tokens_per_step=40, max_sequences=2)
    line = [Sequence([number, 2, 3], "a") for number in range(6)]
    for sequence in line:
        it.add(sequence)
    begun: list[Sequence] = []
    while not it.is_idle:
        plan = it.plan()
        it.commit(plan, [1] * sum(part.is_sampled for part in plan.slices))
        for part in plan.slices:
            begun.append(part.sequence)
            it.remove(part.sequence)
    assert begun == line


def test_who_had_the_most_loses_its_blocks_before_who_came_last() -> None:
    it = Scheduler(num_blocks=9, block_size=4, max_tokens_per_step=40, max_sequences=4)
    greedy = [Sequence([number, 2, 3], "greedy") for number in range(2)]
    for sequence in greedy:
        it.add(sequence)
    it.commit(it.plan(), [1, 1])
    modest = Sequence([4, 2, 3], "modest")
    it.add(modest)
    while not it.stats().preemptions:
        plan = it.plan()
        it.commit(plan, [1] * sum(part.is_sampled for part in plan.slices))
    assert [each.num_preemptions for each in (*greedy, modest)] == [0, 1, 0]


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
