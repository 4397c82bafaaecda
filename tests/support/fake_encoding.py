"""`Service.encode` without an engine: it keeps what it was asked, and answers what a test says."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence

from llmserve.domain import Caller, EncodingAnswer, EncodingPurpose, EncodingRequest, TextPair
from llmserve.errors import LLMServeError


def vector(numbers: Sequence[float]) -> memoryview:
    return memoryview(array("f", numbers))


class FakeEncoding:
    """By default an input's vector is its length and 0.5, its score its document's length, and its
    logits 1, 2, 3."""

    def __init__(self) -> None:
        self.requests: list[EncodingRequest] = []
        self.callers: list[Caller] = []
        self.error: LLMServeError | None = None
        self.answer: EncodingAnswer | None = None
        self.is_held = False
        self.is_cancelled = asyncio.Event()

    async def encode(self, request: EncodingRequest, caller: Caller) -> EncodingAnswer:
        self.requests.append(request)
        self.callers.append(caller)
        if self.error is not None:
            raise self.error
        if self.is_held:
            try:
                await asyncio.Event().wait()
            finally:
                self.is_cancelled.set()
        if self.answer is not None:
            return self.answer
        match request.purpose:
            case EncodingPurpose.EMBEDDING:
                vectors = [vector([_length(one), 0.5]) for one in request.inputs]
            case EncodingPurpose.SCORE:
                vectors = [vector([_length(one)]) for one in request.inputs]
            case _:
                vectors = [vector([1, 2, 3]) for _ in request.inputs]
        return EncodingAnswer(
            model="fake",
            vectors=tuple(vectors),
            tokens=(2,) * len(vectors),
            labels=("sad", "calm", "glad"),
            queue_seconds=0.25,
        )

    @property
    def asked(self) -> EncodingRequest:
        """The only request so far, which is forgotten."""
        [request] = self.requests
        self.requests.clear()
        return request


def _length(one: str | tuple[int, ...] | TextPair) -> int:
    return len(one.document if isinstance(one, TextPair) else one)
