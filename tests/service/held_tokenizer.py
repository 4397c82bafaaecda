"""A service whose tokenizer a test holds up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fake_engine import FakeEngine, LetterTokenizer
from manual_clock import ManualClock

from llmserve.admission.limits import Limiter
from llmserve.clock import AwakeClock, awake_clock
from llmserve.domain import Caller, CallerLimits, GenerationRequest, ModelSpec, Prompt
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.text.too_long import TooLong


class HeldTokenizer(LetterTokenizer):
    """Keeps its thread while a prompt says `wait` and the test does not let go."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def encode(
        self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
    ) -> list[int]:
        self.asked.append(prompt)
        if isinstance(prompt, str) and prompt.startswith("wait"):
            self.begun.set()
            assert self.may_end.wait(20)
        if isinstance(prompt, str) and prompt.startswith("endless"):
            assert max_tokens == 20
            raise TooLong(1_200_000)
        return super().encode(prompt)


@dataclass
class House:
    service: Service
    registry: Registry
    loader: Loader
    engines: dict[str, FakeEngine]
    tokenizer: HeldTokenizer
    limiter: Limiter
    clock: Callable[[], float]

    async def ask(
        self,
        prompt: Prompt = "hi",
        caller: Caller | None = None,
        model: str = "fake",
        timeout_seconds: float | None = None,
    ) -> None:
        request = GenerationRequest("r", prompt, model, timeout_seconds=timeout_seconds)
        async with self.service.open(request, caller or Caller()):
            self.engines[model].finish_all()

    async def hold(
        self, prompt: str = "wait", caller: Caller | None = None, seconds: float | None = None
    ) -> asyncio.Task[None]:
        """A request whose prompt is being made into tokens."""
        self.tokenizer.begun.clear()
        task = asyncio.create_task(self.ask(prompt, caller, timeout_seconds=seconds))
        while not self.tokenizer.begun.is_set():
            await asyncio.sleep(0.001)
        return task

    async def let_go(self) -> None:
        self.tokenizer.may_end.set()
        for engine in self.engines.values():
            while engine.stats().seconds_preparing is not None:
                await asyncio.sleep(0.001)

    def left(self, caller: Caller) -> tuple[int | None, int | None]:
        """Requests and tokens that a key has left."""
        quota = self.limiter.quota(caller)
        assert quota is not None
        requests, tokens = quota.requests, quota.tokens
        return (requests and requests.remaining, tokens and tokens.remaining)


@contextlib.asynccontextmanager
async def house(
    capacity: int = 1,
    max_waiting: int = 2,
    wait: float = 60.0,
    clock: Callable[[], float] = awake_clock,
) -> AsyncIterator[House]:
    engines = {name: FakeEngine(capacity, clock=clock) for name in ("fake", "other")}
    tokenizer = HeldTokenizer()
    engines["fake"].tokenizer = tokenizer
    registry = Registry([ModelSpec(name) for name in engines])
    loader = Loader(registry, lambda spec: engines[spec.name])
    limits = Limits(
        max_waiting=max_waiting, wait_timeout_seconds=wait, request_timeout_seconds=60.0
    )
    limiter = Limiter(None, AwakeClock(ManualClock()))
    service = Service(registry, loader, limits, Recorder(Metrics()), limiter=limiter, clock=clock)
    loader.start()
    await loader.loaded()
    made = House(service, registry, loader, engines, tokenizer, limiter, clock)
    yield made
    for engine in engines.values():
        engine.finish_all()
    await made.let_go()
    assert not limiter._open, "a key's place is held by nobody"
    for model in registry.models:
        assert service.load(model) == (0, 0)
        assert model.open_leases == 0
    await service.drain(1)
    await loader.close()


def key(
    requests: int | None = None, tokens: int | None = None, concurrency: int | None = None
) -> Caller:
    return Caller("key", limits=CallerLimits(requests, tokens, concurrency))
