"""A flooding key beside a normal one, simulated with a manual clock: no second is really slept."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from llmserve.admission.gate import Gate, Ticket
from llmserve.errors import QueueFull

SERVICE_SECONDS = 1.0
CAPACITY = 4
DURATION_SECONDS = 200.0
RETRY_SECONDS = 0.5
TURN_SECONDS = SERVICE_SECONDS * 1.000001
"""Until a slot that was just taken is free again, and what sums of floats are off."""


def equal() -> float:
    return SERVICE_SECONDS


@dataclass
class Key:
    """What the requests of one key are like, and what became of them."""

    name: str
    priority: int = 1
    estimated_cost: float = 1.0
    actual_cost: float = 1.0
    answers: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    foreseen: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    pushed_out: int = 0


class Simulation:
    """Clients at a gate; everything happens at its simulated moment."""

    def __init__(self, max_waiting: int = 100, service: Callable[[], float] = equal) -> None:
        self.now = 0.0
        self.gate = Gate(CAPACITY, max_waiting, lambda: self.now, random.Random(1))
        self._service = service
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, action))

    def add_clients(self, count: int, key: Key, start: float = 0.0) -> None:
        """Closed loop: each asks, waits for the answer, and asks again."""

        def again() -> None:
            self.ask(key, done=again, refused=lambda: self.at(self.now + RETRY_SECONDS, again))

        for number in range(count):
            self.at(start + 0.13 * number, again)

    def add_stream(self, key: Key, every_seconds: float) -> None:
        """Open loop: requests come whatever becomes of the others."""

        def next_one() -> None:
            self.at(self.now + every_seconds, next_one)
            self.ask(key, done=lambda: None, refused=lambda: None)

        self.at(0.0, next_one)

    def ask(self, key: Key, done: Callable[[], None], refused: Callable[[], None]) -> None:
        asked_at = self.now
        estimate: float | None = None
        ticket: Ticket

        def admitted() -> None:
            wait = self.now - asked_at
            key.waits.append(wait)
            if estimate is not None:
                key.foreseen.append((estimate, wait))
            self.at(self.now + self._service(), finished)

        def finished() -> None:
            key.answers.append(self.now - asked_at)
            ticket.release(key.actual_cost)
            done()

        def pushed_out(error: QueueFull) -> None:
            key.pushed_out += 1
            refused()

        try:
            ticket = self.gate.enter(
                admitted,
                caller=key.name,
                priority=key.priority,
                cost=key.estimated_cost,
                on_push_out=pushed_out,
            )
        except QueueFull:
            key.refused += 1
            refused()
        else:
            estimate = ticket.eta_seconds if ticket.is_waiting else None

    def run(self, seconds: float = DURATION_SECONDS) -> None:
        while self._events and self._events[0][0] <= seconds:
            self.now, _, action = heapq.heappop(self._events)
            action()


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def alone(clients: int) -> Key:
    key = Key("normal")
    simulation = Simulation()
    simulation.add_clients(clients, key, start=5.0)
    simulation.run()
    return key


@pytest.mark.parametrize("users", [1, 2, 4])
@pytest.mark.parametrize("flood", ["of 40 clients", "at five times the capacity"])
def test_a_flood_at_most_doubles_the_time_to_a_normal_keys_answer(users: int, flood: str) -> None:
    normal, flooding = Key("normal"), Key("flooding")
    simulation = Simulation()
    if flood == "of 40 clients":
        simulation.add_clients(40, flooding)
    else:
        simulation.add_stream(flooding, SERVICE_SECONDS / CAPACITY / 5)
    simulation.add_clients(users, normal, start=5.0)
    simulation.run()
    assert p95(normal.answers) <= 2 * p95(alone(users).answers) * 1.000001
    assert max(normal.waits) <= 2 * TURN_SECONDS
    assert p95(normal.waits) <= TURN_SECONDS
    assert normal.refused == normal.pushed_out == 0


def test_a_key_of_higher_priority_waits_within_twice_even_when_it_queues_itself() -> None:
    normal, flooding = Key("normal", priority=4), Key("flooding")
    simulation = Simulation()
    simulation.add_clients(40, flooding)
    simulation.add_clients(8, normal, start=5.0)
    simulation.run()
    assert p95(normal.waits) <= 2 * p95(alone(8).waits)
    assert len(flooding.answers) > 0


@pytest.mark.parametrize(("estimated_cost", "actual_cost"), [(1, 1), (10, 1), (1, 4)])
def test_keys_that_want_everything_share_by_priority_and_nothing_is_wasted(
    estimated_cost: float, actual_cost: float
) -> None:
    heavy, light = (Key(n, w, estimated_cost, actual_cost) for n, w in (("b", 4), ("a", 1)))
    simulation = Simulation()
    simulation.add_clients(40, light)
    simulation.add_clients(40, heavy)
    simulation.run()
    served = len(heavy.answers) + len(light.answers)
    assert len(heavy.answers) / served == pytest.approx(0.8, abs=0.05)
    assert served >= 0.98 * CAPACITY * DURATION_SECONDS / SERVICE_SECONDS
    assert max(light.waits) <= 40 / (0.2 * CAPACITY) * SERVICE_SECONDS * 1.5, "nobody starves"


def test_keys_whose_answers_are_guessed_wrongly_have_equal_shares_all_the_same() -> None:
    exact, guessed = Key("exact", 1, 50, 50), Key("guessed", 1, 500, 50)
    simulation = Simulation()
    simulation.add_clients(40, exact)
    simulation.add_clients(40, guessed)
    simulation.run()
    assert len(guessed.answers) == pytest.approx(len(exact.answers), rel=0.1)
    assert max(guessed.waits + exact.waits) <= 1.25 * 80 / CAPACITY * SERVICE_SECONDS


def test_long_answers_are_charged_as_they_were() -> None:
    short, long = Key("short", 1, 50, 50), Key("long", 1, 50, 200)
    simulation = Simulation()
    simulation.add_clients(20, short)
    simulation.add_clients(20, long)
    simulation.run()
    assert len(short.answers) == pytest.approx(4 * len(long.answers), rel=0.15)


@pytest.mark.parametrize("users", [0, 2, 40])
def test_the_slots_are_never_idle_while_somebody_waits(users: int) -> None:
    normal, flooding = Key("normal"), Key("flooding")
    simulation = Simulation()
    simulation.add_clients(40, flooding)
    simulation.add_clients(users, normal)
    simulation.run()
    served = len(normal.answers) + len(flooding.answers)
    assert served >= 0.98 * CAPACITY * DURATION_SECONDS / SERVICE_SECONDS
    assert len(flooding.answers) >= served / 2 - CAPACITY


@pytest.mark.parametrize("users", [2, 4])
def test_a_normal_key_is_never_refused_while_a_flood_overfills_the_queue(users: int) -> None:
    normal, flooding = Key("normal"), Key("flooding")
    simulation = Simulation(max_waiting=10)
    simulation.add_clients(60, flooding)
    simulation.add_clients(users, normal, start=5.0)
    simulation.run()
    assert normal.refused == normal.pushed_out == 0
    assert flooding.refused > 0
    assert flooding.pushed_out > 0
    assert p95(normal.waits) <= TURN_SECONDS


@pytest.mark.parametrize("spread", [0.0, 0.5, None])
def test_estimates_are_right_within_a_turn_of_one_slot(spread: float | None) -> None:
    rng = random.Random(3)

    def service() -> float:
        if spread is None:
            return rng.expovariate(1 / SERVICE_SECONDS)
        return SERVICE_SECONDS * rng.uniform(1 - spread, 1 + spread)

    key = Key("a")
    simulation = Simulation(service=service)
    simulation.add_clients(20, key)
    simulation.run(1000.0)
    errors = [estimate - wait for estimate, wait in key.foreseen]
    assert len(errors) > 3000
    assert abs(sum(errors) / len(errors)) <= SERVICE_SECONDS / CAPACITY, "right on average"
    worst = {0.0: 1.0, 0.5: 1.0, None: 2.0}[spread]
    assert sum(abs(error) for error in errors) / len(errors) <= worst * SERVICE_SECONDS
