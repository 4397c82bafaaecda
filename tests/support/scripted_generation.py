"""A generation without a service: it says what a test has put down for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from fake_engine import LetterTokenizer

from llmserve.domain import Event, SamplingParams
from llmserve.observability.tracing import Moments
from llmserve.service import Answer


class ScriptedGeneration:
    """What writers and the answer read of a `Generation`."""

    def __init__(
        self,
        events: Sequence[Event] = (),
        answer: Answer | Exception | None = None,
        prompt: Sequence[int] = (104, 101, 121),
    ) -> None:
        self.id = "r1"
        self.model = "fake"
        self.prompt_ids = tuple(prompt)
        self.prompt_tokens = len(prompt)
        self.sampling = SamplingParams()
        self.fingerprint = "fp_1"
        self.spelling = LetterTokenizer().spelling
        self.decode = LetterTokenizer().decode
        self.moments = Moments(1.0, 1.25, 1.5, 2.0, 2.5)
        self._events = events
        self._answer = answer

    async def events(self) -> AsyncGenerator[Event]:
        for event in self._events:
            yield event

    async def collect(self) -> Answer:
        if isinstance(self._answer, Exception):
            raise self._answer
        assert self._answer is not None
        return self._answer
