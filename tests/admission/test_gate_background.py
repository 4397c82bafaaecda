"""Background work at the gate: last in, first out, and counted by nobody else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock

from llmserve.admission.background_line import BackgroundBounds
from llmserve.admission.gate import Gate, Ticket
from llmserve.errors import DeadlineUnreachable, Displaced, InvalidRequest, QueueFull


def gate(
    running: int = 2, waiting: int = 2, *, most: int = 2, queued: int = 3, beside: bool = False
) -> Gate:
    bounds = BackgroundBounds(most, queued, beside)
    return Gate(running, waiting, ManualClock(0.0), random.Random(1), bounds)


def background(g: Gate, told: list[Displaced] | None = None, caller: str = "batch") -> Ticket:
    return g.enter_background(
        lambda: None, told.append if told is not None else lambda error: None, caller=caller
    )


def loads(g: Gate) -> tuple[int, int, int, int]:
    return g.running, g.waiting, g.background_running, g.background_waiting


def test_too_much_of_it_is_refused_without_a_word_about_others() -> None:
    g = gate(most=1, queued=2)
    for _ in range(3):
        background(g)
    with pytest.raises(QueueFull, match=r"1 background requests are running and 2 of at most 2"):
        background(g)
    with pytest.raises(QueueFull):
        g.check_background_room(1)
    with pytest.raises(InvalidRequest, match="takes 3 in the background"):
        g.check_background_room(4)
    g.check_room(4)
    assert loads(g) == (0, 0, 1, 2)


def test_it_begins_only_where_nobody_else_runs_or_waits() -> None:
    g = gate(running=1, waiting=1)
    first, second = g.enter(lambda: None), g.enter(lambda: None)
    work = background(g)
    first.release()
    assert work.is_waiting
    assert loads(g) == (1, 0, 0, 1)
    second.release()
    assert not work.is_waiting
    assert loads(g) == (0, 0, 1, 0)


def test_where_the_engine_pauses_it_it_runs_beside_others_and_takes_no_slot() -> None:
    told: list[Displaced] = []
    g = gate(running=1, waiting=1, most=1, beside=True)
    first = g.enter(lambda: None)
    work = [background(g, told) for _ in range(2)]
    assert [ticket.is_waiting for ticket in work] == [False, True]
    first.release()
    g.enter(lambda: None)
    g.enter(lambda: None)
    work[0].release()
    assert work[1].is_waiting, "somebody else waits"
    assert loads(g) == (1, 1, 0, 1)
    assert told == []


def test_who_finds_all_slots_taken_gets_the_one_that_was_given_last() -> None:
    told: dict[str, list[Displaced]] = {"old": [], "new": []}
    g = gate(running=2)
    old, new = background(g, told["old"]), background(g, told["new"])
    order: list[str] = []
    g.enter(lambda: order.append("a"))
    assert (len(told["old"]), len(told["new"])) == (0, 1)
    assert order == [], "the engine has not let go of it yet"
    new.release()
    assert order == ["a"]
    assert loads(g) == (1, 0, 1, 0)
    g.enter(lambda: order.append("b"))
    assert len(told["old"]) == 1
    g.enter(lambda: order.append("c"))
    assert len(told["old"]) == 1, "it is asked once"
    old.release()
    assert order == ["a", "b"]
    assert told["old"][0].retry_after_seconds is not None


def test_nobody_gives_way_while_a_slot_is_free() -> None:
    told: list[Displaced] = []
    g = gate(running=3, most=2)
    background(g, told)
    background(g, told)
    g.enter(lambda: None)
    assert told == []
    assert loads(g) == (1, 0, 2, 0)


def test_who_gives_way_may_leave_and_come_back_at_once() -> None:
    g = gate(running=1, most=1)
    tickets: list[Ticket] = []

    def displaced(error: Displaced) -> None:
        tickets[0].release()
        background(g)

    tickets.append(g.enter_background(lambda: None, displaced))
    mine = g.enter(lambda: None)
    assert not mine.is_waiting
    assert loads(g) == (1, 0, 0, 1)


def test_no_estimate_of_the_others_counts_it() -> None:
    clock = ManualClock(0.0)
    g = Gate(1, 3, clock, random.Random(1), BackgroundBounds(1, 10))
    first = g.enter(lambda: None)
    clock.now = 10.0
    first.release()
    work = background(g)
    waiting = background(g)
    clock.now = 5000.0
    mine = g.enter(lambda: None, patience_seconds=0.0)
    work.release()
    assert not mine.is_waiting
    assert waiting.eta_seconds is None
    assert waiting.position == 0
    clock.now = 5010.0
    g.check_room(1, patience_seconds=10.5)
    with pytest.raises(DeadlineUnreachable):
        g.check_room(1, patience_seconds=9.5)


def test_it_is_nobodys_victim_and_has_none() -> None:
    g = gate(running=1, waiting=1, most=1, queued=1)
    background(g)
    work = background(g)
    pushed: list[QueueFull] = []
    for _ in range(2):
        g.enter(lambda: None, caller="a", on_push_out=pushed.append)
    with pytest.raises(QueueFull):
        g.enter(lambda: None, caller="a", on_push_out=pushed.append)
    with pytest.raises(QueueFull):
        background(g, caller="b")
    assert (work.is_waiting, pushed) == (True, [])


def test_its_callers_are_served_fairly_among_themselves() -> None:
    order: list[str] = []
    g = gate(running=1, most=1, queued=9)
    first = background(g)
    for caller in "aaab":
        g.enter_background(
            lambda caller=caller: order.append(caller),
            lambda error: None,
            caller=caller,
        )
    first.release()
    assert order == ["a"]
    tickets = [t.item for t in g._background._queue]
    assert [t._entry.caller for t in tickets if t._entry is not None] == ["b", "a", "a"]


@settings(deadline=None, max_examples=400)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from(["work", "work", "enter", "end", "end work"]), st.integers(0, 9)),
        max_size=30,
    ),
)
def test_whatever_comes_and_goes_no_slot_is_lost(
    running: int, most: int, beside: bool, moves: list[tuple[str, int]]
) -> None:
    g = gate(running, 5, most=most, queued=5, beside=beside)
    tickets: dict[bool, list[Ticket]] = {False: [], True: []}
    for move, number in moves:
        try:
            if move == "enter":
                tickets[False].append(g.enter(lambda: None))
            elif move == "work":
                tickets[True].append(background(g))
            elif mine := tickets[move == "end work"]:
                mine.pop(number % len(mine)).release()
        except QueueFull:
            continue
        others, waiting, work, idle = loads(g)
        assert others <= running
        assert work <= most
        assert beside or others + work <= running
        assert not waiting or others + (0 if beside else work) == running, "a slot stands empty"
        can_begin = not waiting and work < most and (beside or not (others or work == running))
        assert not (idle and can_begin), "background work stands idle"
    for ticket in (*tickets[False], *tickets[True]):
        ticket.release()
    assert loads(g) == (0, 0, 0, 0)
