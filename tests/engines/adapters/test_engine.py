"""What becomes of adapters when their engine or their reader goes; and of engines without any."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import torch
from bounded import run
from engines.batching.asked import Asked, engine_of
from peft_adapters import make_adapter, peft_prompt_logprobs

from llmserve.domain import (
    AdapterSpec,
    Caller,
    Cancelled,
    EngineKind,
    Failed,
    GenerationRequest,
    ModelSpec,
    PromptLogprobs,
)
from llmserve.engines.adapters.adapter import read_adapter
from llmserve.engines.batching.compute.native.instructions import instruction_sets
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.errors import InvalidRequest, ModelUnloaded, OutOfMemory

KINDS = [EngineKind.BATCHING, EngineKind.THREADED]
pytestmark = [pytest.mark.usefixtures("no_thread_left"), pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(
        tiny_model, tmp_path_factory.mktemp("adapter") / "it", target_modules="all-linear"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_served_is_refused_and_changes_nothing(
    tiny_model: Path, folder: Path, tmp_path: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind, max_adapters=1, max_adapter_rank=3) as engine:
            with pytest.raises(InvalidRequest, match="its rank is 4, and max_adapter_rank is 3"):
                await engine.load_adapter(AdapterSpec("it", path=folder), folder)
            with pytest.raises(InvalidRequest, match=r"adapter_config\.json cannot be read"):
                await engine.load_adapter(AdapterSpec("it", path=tmp_path), tmp_path)
            small = make_adapter(tiny_model, tmp_path / "small", r=2, target_modules=["q_proj"])
            await engine.load_adapter(AdapterSpec("small", path=small), small)
            with pytest.raises(OutOfMemory, match="max_adapters"):
                await engine.load_adapter(AdapterSpec("more", path=small), small)
            request = GenerationRequest("id", (5, 6), adapter="it")
            with pytest.raises(InvalidRequest, match="loaded are: 'small'"):
                await engine.prepare([request], Caller("me"), float("inf"), lambda: lambda: None)
            (task,) = await engine.prepare(
                [GenerationRequest("id", (5, 6), adapter="small")],
                Caller("me"),
                float("inf"),
                lambda: lambda: None,
            )
            assert task.adapter == "small"

    run(test)


@pytest.mark.parametrize("kind", KINDS)
def test_unloading_waits_for_a_stream_that_is_cancelled(
    tiny_model: Path, folder: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            await engine.load_adapter(AdapterSpec("it", path=folder), folder)
            asked = Asked(engine, (5, 6, 7), 300, adapter="it")
            await asked.job.mailbox.next()
            unloading = asyncio.create_task(engine.unload_adapter("it"))
            await asyncio.sleep(0)  # it has begun
            await asked.job.mailbox.next()
            assert not unloading.done()
            late = Asked(engine, (5, 6, 7), 2, adapter="it")
            (event,) = await late.events()
            assert isinstance(event, Failed)
            assert isinstance(event.error, ModelUnloaded)
            asked.job.cancel()
            assert isinstance((await asked.events())[-1], Cancelled)
            await unloading
            assert engine.adapters == ()
            assert engine.stats().running == 0

    run(test)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_that_closes_ends_a_load(
    tiny_model: Path, folder: Path, kind: EngineKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, may_go_on = threading.Event(), threading.Event()

    def slow(*arguments: object) -> object:
        reads.set()
        may_go_on.wait(30)
        return read_adapter(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("llmserve.engines.adapters.adapter.read_adapter", slow)

    async def test() -> None:
        async with engine_of(tiny_model, kind) as engine:
            loading = asyncio.create_task(
                engine.load_adapter(AdapterSpec("it", path=folder), folder)
            )
            await asyncio.to_thread(reads.wait, 30)
            await engine.close()
            may_go_on.set()
            with pytest.raises(ModelUnloaded):
                await loading

    run(test)


@pytest.mark.skipif(not instruction_sets(), reason="no instructions that kernels know")
@pytest.mark.parametrize("preset", ["tiny-llama", "tiny-gpt-oss"])
def test_native_kernels_score_prompts_as_peft_does(preset: str, tmp_path: Path) -> None:
    from make_model import make_model

    base = tmp_path / "base"
    make_model(preset, base)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    folder = make_adapter(base, tmp_path / "it", r=6, size=0.15, target_modules=targets)
    prompt = tuple(range(300, 360))
    spec = ModelSpec("tiny", path=base, dtype="bfloat16", engine=EngineKind.BATCHING)
    options = EngineOptions(lambda spec, report: base, max_running=4, torch_threads=1)

    async def test() -> None:
        engine = build_engine(spec, options)
        try:
            await engine.load(lambda progress: None)
            assert "native kernels" in engine.info.why
            await engine.load_adapter(AdapterSpec("it", path=folder), folder)
            asked = [Asked(engine, prompt, 1, adapter=a, prompt_logprobs=0) for a in ("it", None)]
            for one, path in zip(asked, (folder, None), strict=True):
                events = await one.events()
                told = [t for e in events if isinstance(e, PromptLogprobs) for t in e.tokens]
                expected = torch.tensor(peft_prompt_logprobs(base, path, prompt))
                found = torch.tensor([token.logprob for token in told])
                # Not all: rounding may choose other experts.
                assert float((found - expected).abs().median()) < 0.1
        finally:
            await engine.close()

    run(test)
