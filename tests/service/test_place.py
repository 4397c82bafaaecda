"""What a request holds: given back once, whatever happens to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from llmserve.admission.gate import Gate
from llmserve.clock import awake_clock
from llmserve.domain import Caller
from llmserve.errors import QueueFull
from llmserve.service.place import Place


@dataclass
class Books:
    """What places took, and gave back."""

    gate: Gate = field(default_factory=lambda: Gate(1, 1, awake_clock))
    leases: int = 0
    charged: list[int] = field(default_factory=list)
    loads: list[tuple[int, int]] = field(default_factory=list)
    admitted: list[str] = field(default_factory=list)
    pushed_out: list[str] = field(default_factory=list)

    def place(self, name: str, priority: int = 1) -> Place:
        """One that entered, without a generation to read it."""
        self.leases += 1
        place = Place(
            self.gate,
            Caller(name, priority=priority),
            release_lease=self._release,
            charge=self.charged.append,
            on_change=lambda: self.loads.append((self.gate.running, self.gate.waiting)),
        )

        def push_out(error: QueueFull) -> None:
            self.pushed_out.append(name)
            place.give_back()

        place.enter(lambda: self.admitted.append(name), push_out, cost=1.0, patience_seconds=60.0)
        return place

    def _release(self) -> None:
        self.leases -= 1


def test_a_place_is_given_back_once() -> None:
    books = Books()
    place = books.place("a")
    assert (books.admitted, books.leases, place.is_waiting) == (["a"], 1, False)
    place.give_back(3.0, tokens=2)
    place.give_back(3.0, tokens=2)
    assert (books.charged, books.leases) == ([2], 0)
    assert (books.gate.running, books.gate.waiting) == (0, 0)


def test_the_turn_comes_when_another_gives_its_place_back() -> None:
    books = Books()
    first, second = books.place("a"), books.place("b")
    assert second.is_waiting
    assert second.position == 0
    assert books.admitted == ["a"]
    first.give_back(1.0)
    assert not second.is_waiting
    assert books.admitted == ["a", "b"]
    second.give_back(1.0)
    assert books.leases == 0


def test_who_leaves_before_the_turn_is_charged_for_nothing() -> None:
    books = Books()
    first, second = books.place("a"), books.place("b")
    second.give_back()
    assert books.charged == [0]
    first.give_back(1.0)
    assert books.admitted == ["a"]


def test_a_full_gate_gets_nothing_from_whom_it_refuses() -> None:
    books = Books()
    held = [books.place("a"), books.place("a")]
    with pytest.raises(QueueFull):
        books.place("a")
    assert (books.leases, books.charged) == (2, [0])
    for place in reversed(held):
        place.give_back()
    assert books.leases == 0


def test_who_is_pushed_out_of_the_queue_has_given_everything_back() -> None:
    books = Books(gate=Gate(1, 2, awake_clock))
    running, *waiting = [books.place("a") for _ in range(3)]
    newcomer = books.place("b", priority=4)
    assert books.pushed_out == ["a"]
    assert books.leases == 3
    for place in (running, *waiting, newcomer):
        place.give_back(1.0)
    assert books.leases == 0
    assert sorted(books.charged) == [0, 0, 0, 0]
    assert (books.gate.running, books.gate.waiting) == (0, 0)


def test_whoever_shows_the_load_hears_of_every_change() -> None:
    books = Books()
    first = books.place("a")
    assert books.loads[-1] == (1, 0)
    second = books.place("b")
    assert books.loads[-1] == (1, 1)
    first.give_back(1.0)
    assert books.loads[-1] == (1, 0)
    second.give_back(1.0)
    assert books.loads[-1] == (0, 0)
