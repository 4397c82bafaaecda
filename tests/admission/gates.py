"""Gates under a manual clock. (Not a test.)"""

from __future__ import annotations

import random

from manual_clock import ManualClock

from llmserve.admission.gate import Gate


def gate(running: int = 1, waiting: int = 2) -> tuple[Gate, ManualClock, list[str]]:
    """A gate, its clock at zero, and a list for who is admitted."""
    clock = ManualClock(0.0)
    return Gate(running, waiting, clock, random.Random(1)), clock, []


def held_once(running: int, waiting: int, seconds: float) -> tuple[Gate, ManualClock]:
    """A gate that has seen a caller hold a slot for so long, and whose slots are all taken."""
    g, clock, _ = gate(running, waiting)
    first = g.enter(lambda: None)
    clock.now += seconds
    first.release()
    for _ in range(running):
        g.enter(lambda: None, caller="a")
    return g, clock
