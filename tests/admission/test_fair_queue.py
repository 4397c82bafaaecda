"""Fair queueing: nothing lost, nobody starved, service by weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.admission.fair_queue import Entry, FairQueue

CALLERS = ("a", "b", "c")


def names(queue: FairQueue[str], count: int) -> str:
    return "".join(queue.pop().caller for _ in range(count))


def test_nobody_waits_in_an_empty_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    with pytest.raises(IndexError):
        queue.pop()
    assert queue.fattest() is None
    assert queue.last_of("a") is None
    assert (len(queue), queue.waiting("a")) == (0, 0)


def test_a_caller_alone_is_served_first_come_first_served() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5):
        queue.push(number, "a", weight=3, cost=10.0 - number)
    assert [queue.pop().item for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_newcomer_does_not_wait_for_somebody_elses_backlog() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("", "a", 1, 1.0)
    assert names(queue, 10) == "a" * 10
    entries = [queue.push("", "b", 1, 1.0) for _ in range(3)]
    assert [queue.position(entry) for entry in entries] == [0, 2, 4]
    assert names(queue, 6) == "bababa"


def test_service_is_by_weight_and_by_cost() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("", "a", 1, 1.0)
        queue.push("", "b", 4, 1.0)
        queue.push("", "c", 1, 2.0)
    served = names(queue, 110)
    assert served.count("b") == pytest.approx(4 * served.count("a"), abs=5)
    assert served.count("a") == pytest.approx(2 * served.count("c"), abs=3)


def test_an_answer_that_was_longer_than_said_is_paid_back() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("", "a", 1, 1.0)
    queue.pop()
    queue.correct("a", 1, 3.0)  # it cost 4
    for _ in range(6):
        queue.push("", "a", 1, 1.0)
        queue.push("", "b", 1, 1.0)
    assert names(queue, 5) == "bbbba"


def test_who_gives_up_is_not_charged_and_overtakes_nobody_of_its_own() -> None:
    queue: FairQueue[str] = FairQueue()
    entries = [queue.push(str(n), "a", 1, 5.0) for n in range(3)]
    queue.remove(entries[1])
    queue.push("late", "a", 1, 5.0)
    assert [queue.pop().item for _ in range(3)] == ["0", "2", "late"]


def test_after_a_rest_nobody_owes_anything() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.push("", "a", 1, 1.0)
    names(queue, 50)
    queue.rest()
    assert queue.num_callers == 0
    queue.push("", "a", 1, 1.0)
    queue.push("", "b", 1, 1.0)
    assert names(queue, 2) == "ab"


def test_the_fattest_is_who_waits_with_most_per_weight() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(6):
        queue.push("", "heavy", 4, 1.0)
    last = [queue.push(str(n), "light", 1, 1.0) for n in range(2)][-1]
    assert queue.fattest() == ("light", 2.0)
    assert queue.last_of("light") is last


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "pop", "remove"]), st.sampled_from(CALLERS),
                  st.integers(1, 4), st.floats(0.1, 10)),
        max_size=200,
    )
)  # fmt: skip
def test_nothing_is_lost_or_doubled_and_own_order_holds(
    steps: list[tuple[str, str, int, float]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    waiting: list[Entry[int]] = []
    for number, (step, caller, weight, cost) in enumerate(steps):
        own = [entry for entry in waiting if entry.caller == caller]
        if step == "push":
            waiting.append(queue.push(number, caller, weight, cost))
        elif step == "pop" and waiting:
            entry = queue.pop()
            assert entry is next(e for e in waiting if e.caller == entry.caller)
            waiting.remove(entry)
        elif step == "remove" and own:
            queue.remove(own[-1])
            waiting.remove(own[-1])
        assert len(queue) == len(waiting)
        for name in CALLERS:
            assert queue.waiting(name) == sum(e.caller == name for e in waiting)
        assert sorted(queue.position(e) for e in waiting) == list(range(len(waiting)))
    assert {queue.pop().item for _ in range(len(queue))} == {e.item for e in waiting}
    queue.rest()
    assert queue.num_callers == 0


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0.5, 20), st.floats(0.5, 20))
def test_two_with_backlog_are_served_within_the_bound_of_the_paper(
    weight_a: int, weight_b: int, cost_a: float, cost_b: float
) -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(200):
        queue.push("", "a", weight_a, cost_a)
        queue.push("", "b", weight_b, cost_b)
    served = {"a": 0.0, "b": 0.0}
    bound = cost_a / weight_a + cost_b / weight_b
    while queue.waiting("a") and queue.waiting("b"):
        entry = queue.pop()
        served[entry.caller] += entry.cost / entry.weight
        assert abs(served["a"] - served["b"]) <= bound * 1.000001
