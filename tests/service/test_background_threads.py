"""Background work on threads, which cannot be paused: it gives its thread back and runs again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bounded import run

from llmserve.domain import (
    Caller,
    EngineKind,
    Failed,
    Finish,
    GenerationRequest,
    ModelSpec,
    SamplingFields,
    Started,
)
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.errors import Displaced
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service

pytestmark = pytest.mark.usefixtures("no_thread_left")
BATCH = Caller("batch", is_background=True)


def test_a_displaced_request_that_is_sent_again_says_what_it_would_have_said(
    tiny_model: Path,
) -> None:
    def wanted(name: str, tokens: int, **sampling: Any) -> GenerationRequest:
        fields = SamplingFields(max_tokens=tokens, ignore_eos=True, **sampling)
        return GenerationRequest(id=name, prompt="the fox", sampling=fields)

    async def test() -> None:
        spec = ModelSpec(
            "tiny", path=tiny_model, dtype="float32", device="cpu", engine=EngineKind.THREADED
        )
        options = EngineOptions(lambda spec, report: tiny_model, max_running=1, torch_threads=1)
        registry = Registry([spec])
        loader = Loader(registry, lambda spec: build_engine(spec, options))
        service = Service(registry, loader, Limits(2, 60.0, 60.0), Recorder(Metrics()))
        loader.start()
        await loader.loaded()
        try:
            work = wanted("work", 60, temperature=1.0, seed=7)
            async with service.open(work, BATCH) as generation:
                alone = await generation.collect()
            async with service.open(work, BATCH) as displaced:
                events = displaced.events()
                while not isinstance(await anext(events), Started):
                    pass  # the slot of the one before is about to be free
                async with service.open(wanted("mine", 5), Caller()) as mine:
                    last = [event async for event in events][-1]
                    assert isinstance(last, Failed)
                    assert isinstance(last.error, Displaced)
                    assert (await mine.collect()).finish.usage.completion_tokens == 5
            async with asyncio.timeout(60), service.open(work, BATCH) as again:
                answer = await again.collect()
            assert isinstance(again.terminal, Finish)
            assert answer.text == alone.text
            assert answer.finish.usage.completion_tokens == 60
        finally:
            await service.drain(1)
            await loader.close()

    run(test)
