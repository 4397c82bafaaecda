"""The gate under a manual clock: places, the queue, estimates and refusals."""

from __future__ import annotations

import random

import pytest
from admission.gates import gate, held_once
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock

from llmserve.admission.gate import JITTER, MAX_RETRY_SECONDS, MIN_RETRY_SECONDS, Gate, Ticket
from llmserve.errors import DeadlineUnreachable, InvalidRequest, QueueFull


def test_full_says_when_to_come_back_jittered_and_bounded() -> None:
    g, clock, _ = gate(running=2, waiting=1)
    tickets = [g.enter(lambda: None) for _ in range(3)]
    clock.now = 60.0
    tickets[0].release()
    tickets.append(g.enter(lambda: None))
    delays = []
    for _ in range(50):
        with pytest.raises(QueueFull) as full:
            g.enter(lambda: None)
        delays.append(full.value.retry_after_seconds)
    expected = 2 / 2 * 60.0  # one waits, this would be the second, two slots of a minute each
    assert all(d is not None and expected <= d <= expected * (1 + JITTER) for d in delays)
    assert len(set(delays)) > 40
    assert (g.running, g.waiting) == (2, 1)


def test_retry_after_has_bounds() -> None:
    for held, bound in ((0.0, MIN_RETRY_SECONDS), (1e9, MAX_RETRY_SECONDS)):
        g, clock, _ = gate(1, 0)
        first = g.enter(lambda: None)
        clock.now += held
        first.release()
        g.enter(lambda: None)
        with pytest.raises(QueueFull) as full:
            g.enter(lambda: None)
        assert full.value.retry_after_seconds is not None
        assert bound <= full.value.retry_after_seconds <= bound * (1 + JITTER)


def test_room_for_several_is_checked_before_any_enters() -> None:
    g, _, _ = gate(running=1, waiting=2)
    g.enter(lambda: None)
    g.check_room(2)
    with pytest.raises(QueueFull):
        g.check_room(3)
    with pytest.raises(InvalidRequest, match="takes 3 at most") as refused:
        g.check_room(4)
    assert refused.value.param == "n"


def test_leaving_the_queue_moves_the_others_up() -> None:
    g, _, order = gate(1, 3)
    running = g.enter(lambda: None)
    a, b = g.enter(lambda: order.append("a")), g.enter(lambda: order.append("b"))
    assert (a.position, b.position) == (0, 1)
    a.release()
    assert b.position == 0
    running.release()
    assert order == ["b"]


def test_releasing_twice_is_harmless() -> None:
    g, _, order = gate(1, 3)
    first = g.enter(lambda: None)
    for name in "ab":
        g.enter(lambda name=name: order.append(name))
    first.release()
    first.release()
    assert order == ["a"]
    assert (g.running, g.waiting) == (1, 1)


def test_a_caller_that_gives_up_as_it_is_admitted_lets_the_next_in() -> None:
    g, _, order = gate(1, 3)
    first = g.enter(lambda: None)
    quitter: list[Ticket] = []
    quitter.append(g.enter(lambda: quitter[0].release()))
    g.enter(lambda: order.append("next"))
    first.release()
    assert order == ["next"]
    assert (g.running, g.waiting) == (1, 0)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.sampled_from("er"), st.integers(0, 9)), max_size=60))
def test_nobody_is_lost_and_nobody_jumps_the_queue(moves: list[tuple[str, int]]) -> None:
    g, _, admitted = gate(2, 3)
    entered: list[str] = []
    inside: list[tuple[str, Ticket]] = []
    for number, (move, choice) in enumerate(moves):
        name = str(number)
        if move == "e":
            try:
                ticket = g.enter(lambda name=name: admitted.append(name))
            except QueueFull:
                assert (g.running, g.waiting) == (2, 3)
                continue
            entered.append(name)
            inside.append((name, ticket))
        elif inside:
            name, ticket = inside.pop(choice % len(inside))
            if ticket.is_waiting:
                entered.remove(name)
            ticket.release()
        assert g.running <= 2
        assert g.waiting <= 3
        assert g.running + g.waiting == len(inside)
        assert g.waiting == 0 or g.running == 2, "a slot is free while somebody waits"
        assert admitted == entered[: len(admitted)], "first come, first served"
    for _, ticket in inside:
        ticket.release()
    assert (g.running, g.waiting) == (0, 0)


def test_nobody_measured_yet_means_no_estimate_and_the_shortest_retry() -> None:
    g, clock, _ = gate(1, 1)
    g.enter(lambda: None)
    waiting = g.enter(lambda: None)
    assert waiting.eta_seconds is None
    with pytest.raises(QueueFull) as full:
        g.enter(lambda: None)
    assert full.value.retry_after_seconds is not None
    assert MIN_RETRY_SECONDS <= full.value.retry_after_seconds <= MIN_RETRY_SECONDS * (1 + JITTER)
    clock.now = 1000.0
    waiting.release()
    assert g.enter(lambda: None).eta_seconds is None, "leaving the queue says nothing of slots"


def test_the_same_seed_gives_the_same_jitter() -> None:
    def told(seed: int) -> float | None:
        g = Gate(1, 0, ManualClock(), random.Random(seed))
        g.enter(lambda: None)
        with pytest.raises(QueueFull) as full:
            g.enter(lambda: None)
        return full.value.retry_after_seconds

    assert told(7) == told(7) != told(8)


def test_the_estimate_follows_the_place_the_slots_and_the_hold_time() -> None:
    g, clock, _ = gate(running=2, waiting=4)
    first, second = g.enter(lambda: None), g.enter(lambda: None)
    queue = [g.enter(lambda: None) for _ in range(4)]
    clock.now = 8.0
    first.release()
    assert [t.eta_seconds for t in queue] == [0.0, 4.0, 8.0, 12.0]
    assert [t.position for t in queue] == [0, 0, 1, 2]
    clock.now = 18.0
    second.release()  # held for 18 s, a fifth of the way from 8 to 18 is 10
    assert [t.eta_seconds for t in queue[2:]] == [5.0, 10.0]
    clock.now = 28.0
    queue[0].release()  # arrived at 0 and was admitted at 8: held for 20 s
    assert queue[3].eta_seconds == pytest.approx(6.0)


def test_leaving_the_queue_twice_or_after_running_frees_one_place_only() -> None:
    g, _, order = gate(1, 2)
    first = g.enter(lambda: None)
    quitter = g.enter(lambda: order.append("quitter"))
    g.enter(lambda: order.append("next"))
    quitter.release()
    quitter.release()
    first.release()
    quitter.release()
    assert (g.running, g.waiting, order) == (1, 0, ["next"])
    assert not quitter.is_waiting


def test_a_caller_that_enters_while_another_is_admitted_goes_to_the_end() -> None:
    g, _, order = gate(1, 3)
    first = g.enter(lambda: None)

    def again() -> None:
        order.append("a")
        g.enter(lambda: order.append("late"))

    a, b = g.enter(again), g.enter(lambda: order.append("b"))
    for ticket in (first, a, b):
        ticket.release()
    assert order == ["a", "b", "late"]


def test_who_would_wait_too_long_is_refused_at_once_with_both_figures() -> None:
    g, _ = held_once(running=1, waiting=5, seconds=30.0)
    with pytest.raises(DeadlineUnreachable, match=r"about 30 s.*waits at most 10 s") as refused:
        g.enter(lambda: None, patience_seconds=10.0)
    assert refused.value.retry_after_seconds is not None
    assert 20.0 <= refused.value.retry_after_seconds <= 20.0 * (1 + JITTER)
    assert g.waiting == 0
    assert g.enter(lambda: None, patience_seconds=30.0).is_waiting
    with pytest.raises(DeadlineUnreachable, match="about 60 s"):
        g.enter(lambda: None, patience_seconds=59.0)


def test_who_need_not_wait_needs_no_patience() -> None:
    g, clock, _ = gate(running=2, waiting=5)
    first = g.enter(lambda: None)
    clock.now = 30.0
    first.release()
    for _ in range(2):
        assert not g.enter(lambda: None, patience_seconds=0.0).is_waiting
    with pytest.raises(DeadlineUnreachable):
        g.enter(lambda: None, patience_seconds=0.0)


def test_a_place_that_is_taken_over_is_not_waited_for() -> None:
    g, clock, _ = gate(running=2, waiting=3)
    debtor = g.enter(lambda: None, caller="b")
    g.enter(lambda: None, caller="a")
    clock.now = 60.0
    debtor.release(100.0)
    for _ in range(4):  # one runs and three wait, all before one who owes a hundred
        g.enter(lambda: None, caller="a", on_push_out=lambda error: None)
    with pytest.raises(DeadlineUnreachable, match="about 90 s"):
        g.enter(lambda: None, caller="b", patience_seconds=89.0)
    late = g.enter(lambda: None, caller="b", patience_seconds=90.0)
    assert (late.position, late.eta_seconds) == (2, 90.0)


def test_before_anything_was_measured_nobody_is_shed() -> None:
    g, _, _ = gate(1, 5)
    g.enter(lambda: None)
    assert g.enter(lambda: None, patience_seconds=0.001).is_waiting


def test_who_is_admitted_may_release_others_that_wait() -> None:
    g, _, order = gate(1, 5)
    first = g.enter(lambda: None)
    others: list[Ticket] = []

    def only_me() -> None:
        order.append("me")
        for ticket in others:
            ticket.release()

    mine = g.enter(only_me)
    others += [g.enter(lambda: order.append("other")) for _ in range(3)]
    first.release()
    assert order == ["me"]
    assert (g.running, g.waiting) == (1, 0)
    mine.release()
    assert (g.running, g.waiting) == (0, 0)


def test_thousands_who_leave_as_they_are_admitted_are_not_thousands_of_frames_deep() -> None:
    g, _, order = gate(1, 5000)
    first = g.enter(lambda: None)
    quitters: list[Ticket] = []
    for number in range(4999):
        quitters.append(g.enter(lambda number=number: quitters[number].release()))
    g.enter(lambda: order.append("last"))
    first.release()
    assert order == ["last"]
    assert (g.running, g.waiting) == (1, 0)
