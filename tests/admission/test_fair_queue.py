"""Fair queueing: nothing lost, nobody starved, service by priority."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.admission.fair_queue import MAX_IDLE_CALLERS, UNIT, Entry, FairQueue

CALLERS = ("a", "b", "c")
costs = st.floats(0.1, 10)
priorities = st.integers(1, 5)


def names(queue: FairQueue[str], count: int) -> str:
    return "".join(queue.pop().caller for _ in range(count))


def fill(queue: FairQueue[str], count: int, caller: str, priority: int = 1) -> list[Entry[str]]:
    return [queue.push(str(number), caller, priority, 1.0) for number in range(count)]


def test_nobody_waits_in_an_empty_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    with pytest.raises(IndexError):
        queue.pop()
    assert queue.longest(1, "a", 1) == []
    assert (len(queue), queue.waiting("a"), queue.next_position("a")) == (0, 0, 0)


def test_who_gives_up_is_not_charged_and_overtakes_nobody_of_its_own() -> None:
    queue: FairQueue[str] = FairQueue()
    entries = [queue.push(str(n), "a", 1, 5.0) for n in range(4)]
    queue.remove(entries[1])
    queue.remove(entries[2])
    queue.push("late", "a", 1, 5.0)
    assert [entry.item for entry in queue] == ["0", "3", "late"]
    queue.push("other", "b", 1, 16.0)
    queue.push("last", "b", 1, 1.0)
    assert [queue.pop().item for _ in range(5)] == ["0", "other", "3", "late", "last"]


def test_after_a_rest_nobody_owes_anything() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, 50, "a")
    names(queue, 50)
    queue.rest()
    assert queue.num_callers == 0
    fill(queue, 1, "a")
    fill(queue, 1, "b")
    assert names(queue, 2) == "ab"


def test_an_answer_that_was_longer_than_said_is_paid_back() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("", "a", 1, 1.0)
    queue.correct(queue.pop(), 4.0)
    for _ in range(6):
        fill(queue, 1, "a")
        fill(queue, 1, "b")
    assert names(queue, 6) == "bbbbab"


def test_answers_that_were_shorter_than_said_bring_the_ones_that_wait_forward() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(20):
        queue.push("", "careful", 1, 100.0)
        queue.push("", "exact", 1, 1.0)
    served = []
    for _ in range(20):
        entry = queue.pop()
        served.append(entry.caller)
        queue.correct(entry, 1.0)
    assert abs(served.count("careful") - served.count("exact")) <= 2


def test_what_was_not_used_is_not_saved_up() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("", "b", 1, 1.0)
    first = queue.pop()
    fill(queue, 100, "a")
    assert names(queue, 50) == "a" * 50
    fill(queue, 50, "b")
    queue.correct(first, 1.0)
    assert abs(names(queue, 20).count("b") - 10) <= 1


def test_a_newcomer_does_not_wait_for_what_was_guessed_too_high() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(10):
        queue.push("", "a", 1, 100.0)
    for entry in [queue.pop() for _ in range(4)]:
        queue.correct(entry, 1.0)
    assert queue.pop().tag == 4 * UNIT
    fill(queue, 1, "b")
    assert names(queue, 1) == "b"


def test_a_charge_for_a_caller_who_was_forgotten_is_remembered() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("", "b", 1, 1.0)
    long = queue.pop()
    fill(queue, 10, "a")
    names(queue, 10)
    queue.remove(fill(queue, 1, "b")[0])
    assert queue.num_callers == 1, "b came and went and owes nothing"
    queue.correct(long, 14.5)
    fill(queue, 10, "a")
    fill(queue, 1, "b")
    assert names(queue, 11).index("b") == 5, "a has had 10 and b 14.5"


def test_of_callers_who_come_once_only_so_many_are_remembered() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, 3, "resident")
    for number in range(5 * MAX_IDLE_CALLERS):
        queue.push("", f"guest {number}", 1, 1.0)
        queue.correct(queue.pop(), 2.0)
        assert queue.num_callers <= 2 * MAX_IDLE_CALLERS
    assert len(queue) == 3


def test_a_debt_ends_when_the_others_have_had_as_much() -> None:
    queue: FairQueue[str] = FairQueue()
    for batch in range(5):
        for number in range(MAX_IDLE_CALLERS):
            fill(queue, 1, f"guest {batch}-{number}")
        names(queue, MAX_IDLE_CALLERS)
        fill(queue, 3, "a")
        names(queue, 3)
        assert queue.num_callers <= 2 * MAX_IDLE_CALLERS


def test_a_caller_alone_is_served_first_come_first_served() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5):
        queue.push(number, "a", priority=3, cost=10.0 - number)
    assert [queue.pop().item for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_newcomer_does_not_wait_for_somebody_elses_backlog() -> None:
    queue: FairQueue[str] = FairQueue()
    fill(queue, 100, "a")
    assert names(queue, 10) == "a" * 10
    entries = fill(queue, 3, "b")
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


def test_room_is_made_by_who_then_has_most_waiting_per_weight() -> None:
    queue: FairQueue[str] = FairQueue()
    heavy = fill(queue, 8, "heavy", priority=4)
    light, other = fill(queue, 4, "light"), fill(queue, 3, "other")
    assert queue.longest(1, "light", 1) == []
    assert queue.longest(3, "new", 1) == [light[3], light[2]]
    room = [light[3], light[2], other[2], heavy[7], light[1], other[1]]
    assert queue.longest(9, "new", 4) == room, "a seventh would have as much as the longest"
    assert queue.longest(3, "new", 1, expected=1) == [light[3]]
    queue.remove(light[3])
    assert queue.longest(1, "new", 1) == [light[2]]


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "pop", "remove", "correct"]),
                  st.sampled_from(CALLERS), priorities, costs),
        max_size=200,
    )
)  # fmt: skip
def test_nothing_is_lost_or_doubled_and_own_order_holds(
    steps: list[tuple[str, str, int, float]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    waiting: list[Entry[int]] = []
    served: list[Entry[int]] = []
    for number, (step, caller, priority, cost) in enumerate(steps):
        own = [entry for entry in waiting if entry.caller == caller]
        if step == "push":
            foreseen = queue.next_position(caller)
            waiting.append(queue.push(number, caller, priority, cost))
            assert queue.position(waiting[-1]) == foreseen
        elif step == "pop" and waiting:
            entry = queue.pop()
            assert entry is next(e for e in waiting if e.caller == entry.caller)
            waiting.remove(entry)
            served.append(entry)
        elif step == "remove" and own:
            queue.remove(own[number % len(own)])
            waiting.remove(own[number % len(own)])
        elif step == "correct" and served:
            queue.correct(served.pop(), cost)
        assert len(queue) == len(waiting)
        for name in CALLERS:
            line = [e for e in waiting if e.caller == name]
            assert queue.waiting(name) == len(line)
            assert [e for e in queue if e.caller == name] == line
        assert [queue.position(e) for e in queue] == list(range(len(waiting)))
    assert {queue.pop().item for _ in range(len(queue))} == {e.item for e in waiting}
    queue.rest()
    assert queue.num_callers == 0


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.sampled_from("abcp"), priorities, costs), max_size=100))
def test_the_order_that_is_shown_is_the_order_of_service(
    steps: list[tuple[str, int, float]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, (name, priority, cost) in enumerate(steps):
        if name == "p" and queue:
            queue.pop()
        elif name != "p":
            queue.push(number, name, priority, cost)
    shown = [entry.item for entry in queue]
    assert [queue.pop().item for _ in range(len(queue))] == shown


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.tuples(priorities, st.lists(costs, min_size=1, max_size=5)), min_size=2, max_size=4)
)
def test_callers_with_backlog_are_served_within_the_bound_of_the_paper(
    callers: list[tuple[int, list[float]]],
) -> None:
    queue: FairQueue[None] = FairQueue()
    most = {str(number): max(sizes) / priority for number, (priority, sizes) in enumerate(callers)}
    for number, (priority, sizes) in enumerate(callers):
        for turn in range(60):
            queue.push(None, str(number), priority, sizes[turn % len(sizes)])
    served = dict.fromkeys(most, 0.0)
    pairs = list(combinations(most, 2))
    apart = {pair: [0.0] for pair in pairs}
    while all(queue.waiting(name) for name in most):
        entry = queue.pop()
        served[entry.caller] += entry.cost / entry.priority
        for i, j in pairs:
            apart[i, j].append(served[i] - served[j])
    for i, j in pairs:  # over every interval: the largest difference of two moments
        rounding = 200 / UNIT
        assert max(apart[i, j]) - min(apart[i, j]) <= most[i] + most[j] + rounding


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(priorities, costs), min_size=1, max_size=4), priorities, costs)
def test_nobody_starves_however_much_the_others_push(
    others: list[tuple[int, float]], priority: int, cost: float
) -> None:
    queue: FairQueue[None] = FairQueue()
    for number, (w, c) in enumerate(others):
        for _ in range(3):
            queue.push(None, str(number), w, c)
    for _ in range(2):
        queue.push(None, "patient", priority, cost)
    turns_of_others = sum(cost / priority * w / c + 2 for w, c in others)
    turns = 0
    while queue.waiting("patient"):
        entry = queue.pop()
        turns += 1
        if entry.caller != "patient":
            queue.push(None, entry.caller, entry.priority, entry.cost)
        assert turns <= turns_of_others + 2
