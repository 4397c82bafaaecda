"""The gate among several callers: whose turn it is, and who makes room for whom."""

from __future__ import annotations

import contextlib
import random

import pytest
from admission.gates import gate, held_once
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock

from llmserve.admission.gate import Gate, Ticket
from llmserve.errors import DeadlineUnreachable, InvalidRequest, QueueFull


def test_a_full_queue_makes_room_for_a_caller_who_has_less() -> None:
    g, _ = held_once(running=1, waiting=3, seconds=1.0)
    pushed: list[QueueFull] = []
    flood = [g.enter(lambda: None, caller="a", on_push_out=pushed.append) for _ in range(3)]
    with pytest.raises(QueueFull):
        g.enter(lambda: None, caller="a", on_push_out=pushed.append)
    g.check_room(1, caller="b")
    mine = g.enter(lambda: None, caller="b", on_push_out=pushed.append)
    assert [t.is_waiting for t in flood] == [True, True, False]
    assert pushed[0].retry_after_seconds is not None
    assert (mine.position, g.waiting) == (0, 3)
    # Two against one: pushing out another would only turn the tables.
    with pytest.raises(QueueFull):
        g.check_room(1, caller="b")
    with pytest.raises(QueueFull):
        g.enter(lambda: None, caller="b", on_push_out=pushed.append)
    assert len(pushed) == 1


def test_who_cannot_be_told_is_not_pushed_out() -> None:
    g, _ = held_once(running=1, waiting=1, seconds=1.0)
    g.enter(lambda: None, caller="a")
    with pytest.raises(QueueFull):
        g.check_room(1, caller="b", priority=9)
    with pytest.raises(QueueFull):
        g.enter(lambda: None, caller="b", priority=9)


def test_room_for_several_counts_those_of_them_that_find_a_free_place() -> None:
    g, _ = held_once(running=1, waiting=5, seconds=1.0)
    for _ in range(4):
        g.enter(lambda: None, caller="a", on_push_out=lambda error: None)
    g.check_room(2, caller="b")
    with pytest.raises(QueueFull):
        g.check_room(3, caller="b")


def test_nobody_is_pushed_out_for_a_caller_who_would_not_wait_that_long() -> None:
    g, _ = held_once(running=1, waiting=2, seconds=30.0)
    pushed: list[QueueFull] = []
    flood = [g.enter(lambda: None, caller="a", on_push_out=pushed.append) for _ in range(2)]
    with pytest.raises(DeadlineUnreachable):
        g.enter(lambda: None, caller="b", patience_seconds=5.0)
    assert pushed == []
    assert [t.is_waiting for t in flood] == [True, True]


def test_who_is_pushed_out_may_come_back_at_once_and_is_refused() -> None:
    g, _ = held_once(running=1, waiting=2, seconds=1.0)
    refused: list[QueueFull] = []

    def again(error: QueueFull) -> None:
        assert (g.running, g.waiting) == (1, 2)
        with pytest.raises(QueueFull) as full:
            g.enter(lambda: None, caller="a", on_push_out=again)
        refused.append(full.value)

    for _ in range(2):
        g.enter(lambda: None, caller="a", on_push_out=again)
    g.enter(lambda: None, caller="b", on_push_out=again)
    assert len(refused) == 1
    assert (g.running, g.waiting) == (1, 2)


def test_who_is_pushed_out_may_give_back_what_else_it_holds() -> None:
    g, _, order = gate(1, 2)
    holder = g.enter(lambda: None, caller="a")
    g.enter(lambda: order.append("a"), caller="a")
    victim = g.enter(lambda: None, caller="a", on_push_out=lambda error: holder.release())
    g.enter(lambda: order.append("b"), caller="b")
    assert order == ["b"]
    victim.release()
    assert (g.running, g.waiting) == (1, 1), "it left when it was pushed out"


@settings(deadline=None)  # the machine may be busy
@given(
    st.integers(1, 2),
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from("aabc"), st.booleans()), max_size=14),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_there_is_room_for_several_exactly_when_all_of_them_can_enter(
    running: int, waiting: int, guests: list[tuple[str, bool]], count: int, priority: int
) -> None:
    priority_of = {"a": 1, "b": 2, "c": priority}
    g = Gate(running, waiting, ManualClock(), random.Random(1))

    def enter(name: str, *, can_be_told: bool) -> None:
        tell = (lambda error: None) if can_be_told else None
        g.enter(lambda: None, caller=name, priority=priority_of[name], on_push_out=tell)

    for name, can_be_told in guests:
        with contextlib.suppress(QueueFull):
            enter(name, can_be_told=can_be_told)
    try:
        g.check_room(count, caller="c", priority=priority)
        has_room = True
    except (QueueFull, InvalidRequest):
        has_room = False
    try:
        for _ in range(count):
            enter("c", can_be_told=True)
        all_entered = True
    except QueueFull:
        all_entered = False
    assert has_room == all_entered


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.sampled_from("erqx"), st.sampled_from("abc"), st.integers(0, 99)),
                max_size=80))  # fmt: skip
def test_with_many_callers_everybody_gets_one_outcome_and_no_slot_is_idle(
    moves: list[tuple[str, str, int]],
) -> None:
    g = Gate(2, 4, ManualClock(), random.Random(1))
    priority_of = {"a": 1, "b": 2, "c": 4}
    outcomes: dict[int, list[str]] = {}
    inside: dict[int, Ticket] = {}

    def enter(number: int, caller: str, kind: str) -> None:
        def admitted() -> None:
            outcomes[number].append("admitted")
            if kind == "q" and number in inside:  # gives up as its turn comes
                inside.pop(number).release()
            if kind == "x" and inside:  # takes another one with it
                inside.pop(next(iter(inside))).release(3.0)

        def pushed_out(error: QueueFull) -> None:
            outcomes[number].append("pushed out")
            inside.pop(number)

        outcomes[number] = []
        ticket = g.enter(
            admitted,
            caller=caller,
            priority=priority_of[caller],
            cost=1.0 + number % 7,
            on_push_out=pushed_out,
        )
        inside[number] = ticket

    for number, (move, caller, choice) in enumerate(moves):
        if move == "r" and inside:
            inside.pop(sorted(inside)[choice % len(inside)]).release(choice / 10)
        elif move != "r":
            try:
                enter(number, caller, move)
            except QueueFull:
                assert (g.running, g.waiting) == (2, 4)
        assert g.running <= 2
        assert g.waiting <= 4
        assert g.running + g.waiting == len(inside)
        assert g.waiting == 0 or g.running == 2, "a slot is free while somebody waits"
        queue = [ticket.position for ticket in inside.values() if ticket.is_waiting]
        assert sorted(queue) == list(range(g.waiting))
    while inside:
        inside.pop(next(iter(inside))).release()
    assert (g.running, g.waiting) == (0, 0)
    assert all(len(outcome) <= 1 for outcome in outcomes.values())


class Line:
    """Callers at a gate of one slot; a ticket's name begins with its caller's."""

    def __init__(self) -> None:
        self.gate = Gate(1, 10, ManualClock(), random.Random(1))
        self.order: list[str] = []
        self.tickets: dict[str, Ticket] = {}

    def enter(self, *names: str) -> None:
        for name in names:
            self.tickets[name] = self.gate.enter(
                lambda name=name: self.order.append(name), caller=name[0]
            )

    def serve(self, cost: float = 1.0) -> None:
        """Whoever was admitted last is done."""
        self.tickets[self.order[-1]].release(cost)


def test_the_turn_goes_round_among_callers() -> None:
    line = Line()
    line.enter("a0", "a1", "a2", "a3", "b0", "b1")
    positions = {name: ticket.position for name, ticket in line.tickets.items()}
    assert positions == {"a0": 0, "b0": 0, "a1": 1, "b1": 2, "a2": 3, "a3": 4}
    for _ in positions:
        line.serve()
    assert line.order == ["a0", "b0", "a1", "b1", "a2", "a3"]


@pytest.mark.parametrize(
    ("actual", "order"),
    [(5.0, ["a0", "b0", "b1", "b2", "a1"]), (1.0, ["a0", "b0", "a1", "b1", "b2"])],
)
def test_who_used_more_than_it_said_waits_for_it(actual: float, order: list[str]) -> None:
    line = Line()
    line.enter("a0", "b0")
    line.serve(actual)
    line.enter("a1", "b1", "b2")
    for _ in range(4):
        line.serve()
    assert line.order == order


def test_who_used_less_than_it_said_has_its_next_turn_sooner() -> None:
    line = Line()
    line.enter("a0", "a1", "a2", "b0", "b1", "b2")
    for cost in (0.1, 1.0, 0.1, 1.0, 1.0, 1.0):
        line.serve(cost)
    assert line.order == ["a0", "b0", "a1", "a2", "b1", "b2"]


def test_when_nobody_is_left_all_debts_are_forgotten() -> None:
    line = Line()
    line.enter("b0")
    line.serve(100.0)
    line.enter("a0", "a1", "b1")
    for _ in range(3):
        line.serve()
    assert line.order == ["b0", "a0", "b1", "a1"]
