"""A front: keys' limits, and the choice of a box by what it knows itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from llmserve.admission.limits import Admission, Limiter
from llmserve.clock import AwakeClock
from llmserve.domain import Caller, CallerLimits
from llmserve.engines.remote.prefix_memory import CAPACITY, PrefixMemory, digest_of
from llmserve.errors import InvalidRequest, RateLimited
from measure.simulation.answer import Answer
from measure.simulation.box import Box
from measure.simulation.request import Request
from measure.simulation.routing import ROUTINGS, Known
from measure.simulation.tally import Tally
from measure.simulation.timeline import Timeline


class Front:
    """Boxes are shared with other fronts; what is known of them, and what was counted of a key, is
    this one's alone."""

    def __init__(
        self,
        boxes: Sequence[Box],
        routing: str,
        limits: CallerLimits,
        timeline: Timeline,
        rng: random.Random,
        tally: Tally,
        grain: int,
    ) -> None:
        self._boxes = boxes
        self._choose = ROUTINGS[routing](rng)
        self._limits = limits
        self._limiter = Limiter(None, AwakeClock(timeline))
        self._timeline = timeline
        self._tally = tally
        self._grain = grain
        # A remembered block is of so many ids, each of them `grain` tokens.
        self._known = [Known(prefixes=PrefixMemory(CAPACITY // grain)) for _ in boxes]

    def send(self, request: Request, on_end: Callable[[str | None], None]) -> None:
        """Answer a request; `on_end` gets the error that ended it, if there was one."""
        answer = Answer(request, self._grain, self._timeline.now)
        self._tally.sent(answer)
        caller = Caller(request.caller, limits=self._limits)
        try:
            admission = self._limiter.admit(caller, requests=1, prompt_tokens=answer.prompt_tokens)
        except (RateLimited, InvalidRequest) as error:
            answer.on_end = partial(self._refused, on_end)
            answer.end(error.code)
            return
        digest = digest_of(tuple(answer.sequence.token_ids))
        index = self._choose(self._known, digest)
        known = self._known[index]
        known.prefixes.add(digest)
        known.running += 1
        answer.on_first = self._tally.first
        answer.on_token = self._tally.token
        answer.on_end = partial(self._ended, known, index, admission, on_end)
        self._boxes[index].send(answer)

    def _ended(
        self,
        known: Known,
        index: int,
        admission: Admission,
        on_end: Callable[[str | None], None],
        answer: Answer,
        error: str | None,
    ) -> None:
        known.running -= 1
        admission.close(0 if error else answer.request.answer_tokens)
        self._tally.ended(answer, error, index)
        on_end(error)

    def _refused(
        self, on_end: Callable[[str | None], None], answer: Answer, error: str | None
    ) -> None:
        self._tally.ended(answer, error, None)
        on_end(error)
