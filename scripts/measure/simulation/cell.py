"""Boxes, fronts and clients, from the first request to the end of the last."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from zlib import crc32

from llmserve.domain import CallerLimits
from measure.simulation.box import Box
from measure.simulation.box_limits import BoxLimits
from measure.simulation.front import Front
from measure.simulation.profile import Profile
from measure.simulation.request import Request
from measure.simulation.tally import Figures, Tally
from measure.simulation.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Cell:
    """Attributes:
    fronts: each request comes to any of them, or those of a key always to the same.
    grain: how many tokens are one in the simulation.
    """

    profile: Profile
    boxes: int = 1
    fronts: int = 1
    is_front_by_key: bool = False
    routing: str = "weighed"
    box_limits: BoxLimits = field(default_factory=BoxLimits)
    key_limits: CallerLimits = field(default_factory=CallerLimits)
    grain: int = 1


class Run:
    """One cell and one load; the same seed gives the same figures."""

    def __init__(
        self, cell: Cell, requests: Sequence[Request], begin: float, end: float, seed: int
    ) -> None:
        self._timeline = timeline = Timeline()
        self._rng = rng = random.Random(seed)
        self._is_front_by_key = cell.is_front_by_key
        self._begin, self._end = begin, end
        self._requests = requests
        self.tally = Tally(cell.boxes, begin, end, cell.grain, timeline)
        self.boxes = [
            Box(cell.profile, cell.box_limits, timeline, rng, cell.grain) for _ in range(cell.boxes)
        ]
        self._fronts = [
            Front(self.boxes, cell.routing, cell.key_limits, timeline, rng, self.tally, cell.grain)
            for _ in range(cell.fronts)
        ]

    def figures(self) -> Figures:
        """Let all of it happen."""
        self._timeline.after(self._begin, self.tally.open)
        for request in self._requests:
            self._timeline.after(request.at, partial(self._send, request))
        self._timeline.after(self._end, self.tally.close)
        self._timeline.run()
        return self.tally.figures

    def _send(self, request: Request) -> None:
        self._front_of(request).send(request, partial(self._ended, request))

    def _front_of(self, request: Request) -> Front:
        if not self._is_front_by_key:
            return self._rng.choice(self._fronts)
        return self._fronts[crc32(request.caller.encode()) % len(self._fronts)]

    def _ended(self, request: Request, error: str | None) -> None:
        """The conversation goes on, unless it was refused or the time is over."""
        later = request.then
        if error is None and later is not None and self._timeline.now + later.at < self._end:
            self._timeline.after(later.at, partial(self._send, later))
