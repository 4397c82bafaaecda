"""A flooding key beside a normal one, simulated with a manual clock: no second is really slept."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import pytest

from llmserve.admission.gate import Gate
from llmserve.errors import QueueFull

SERVICE_SECONDS = 1.0
CAPACITY = 4


@dataclass
class Client:
    """Asks, waits for the answer, and asks again."""

    key: str
    weight: int = 1
    answers: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    pushed_out: int = 0


class Simulation:
    """Clients at a gate whose slots each take the same time for an answer."""

    def __init__(self, max_waiting: int = 100) -> None:
        self.now = 0.0
        self.gate = Gate(CAPACITY, max_waiting, lambda: self.now)
        self._events: list[tuple[float, int, object]] = []
        self._number = 0

    def at(self, time: float, action: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, action))

    def add(self, client: Client, start: float = 0.0) -> None:
        self.at(start, lambda: self.ask(client))

    def ask(self, client: Client) -> None:
        asked_at = self.now

        def admitted() -> None:
            client.waits.append(self.now - asked_at)
            self.at(self.now + SERVICE_SECONDS, finished)

        def finished() -> None:
            client.answers.append(self.now - asked_at)
            ticket.release(1.0)
            self.ask(client)

        def pushed_out(error: QueueFull) -> None:
            client.pushed_out += 1
            self.at(self.now + 0.5, lambda: self.ask(client))

        try:
            ticket = self.gate.enter(
                admitted, caller=client.key, weight=client.weight, on_push_out=pushed_out
            )
        except QueueFull:
            client.refused += 1
            self.at(self.now + 0.5, lambda: self.ask(client))

    def run(self, seconds: float) -> None:
        while self._events and self._events[0][0] <= seconds:
            self.now, _, action = heapq.heappop(self._events)
            action()  # type: ignore[operator]


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def simulate(
    users: int, flooders: int, *, priority: int = 1, max_waiting: int = 100
) -> tuple[list[Client], list[Client]]:
    simulation = Simulation(max_waiting)
    normal = [Client("b", priority) for _ in range(users)]
    flood = [Client("a") for _ in range(flooders)]
    for number, client in enumerate(flood):
        simulation.add(client, start=0.01 * number)
    for number, client in enumerate(normal):
        simulation.add(client, start=5.0 + 0.13 * number)
    simulation.run(200.0)
    return normal, flood


def answers(clients: list[Client]) -> list[float]:
    return [seconds for client in clients for seconds in client.answers]


def waits(clients: list[Client]) -> list[float]:
    return [seconds for client in clients for seconds in client.waits]


@pytest.mark.parametrize("users", [1, 2])
def test_a_flood_at_most_doubles_what_a_normal_key_waits_for_its_answer(users: int) -> None:
    alone, _ = simulate(users, flooders=0)
    beside, flood = simulate(users, flooders=40)
    assert p95(answers(beside)) <= 2 * p95(answers(alone))
    assert p95(waits(beside)) <= SERVICE_SECONDS
    assert sum(len(client.answers) for client in flood) > 0


def test_a_key_of_higher_priority_waits_within_twice_even_when_it_queues_itself() -> None:
    alone, _ = simulate(8, flooders=0)
    beside, flood = simulate(8, flooders=40, priority=4)
    assert p95(waits(beside)) <= 2 * p95(waits(alone))
    assert len(answers(flood)) > 0


def test_two_keys_that_want_everything_share_by_priority_and_nothing_is_wasted() -> None:
    heavy, light = simulate(40, flooders=40, priority=4)
    share = len(answers(heavy)) / (len(answers(heavy)) + len(answers(light)))
    assert share == pytest.approx(0.8, abs=0.04)
    assert len(answers(heavy)) + len(answers(light)) >= 0.98 * CAPACITY * 200 / SERVICE_SECONDS


def test_a_normal_key_is_never_refused_while_a_flood_fills_the_queue() -> None:
    normal, flood = simulate(2, flooders=60, max_waiting=10)
    assert sum(client.refused + client.pushed_out for client in normal) == 0
    assert sum(client.refused for client in flood) > 0
    assert sum(client.pushed_out for client in flood) > 0
