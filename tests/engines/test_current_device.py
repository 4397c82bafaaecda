"""Every thread that launches kernels has made the model's device its current one: Triton, CUDA
graphs and synchronisation go to the first GPU otherwise."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import run

from llmserve.domain import EngineKind, Finish, ModelSpec, SamplingParams
from llmserve.engines.batching import engine as batching
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.engines.threaded import engine as threaded
from llmserve.engines.weights import loading

pytestmark = pytest.mark.usefixtures("no_thread_left")


class CurrentDevices:
    """Stands in for CUDA's current device, which belongs to each thread."""

    def __init__(self) -> None:
        self._own = threading.local()
        self.launches: list[tuple[str, torch.device | None]] = []

    def make_current(self, device: torch.device) -> None:
        self._own.device = device

    def launch(self, *args: Any) -> None:
        device = getattr(self._own, "device", None)
        self.launches.append((threading.current_thread().name, device))


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_each_launch_finds_its_device(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, kind: EngineKind
) -> None:
    devices = CurrentDevices()
    for module in (batching, threaded, loading):
        monkeypatch.setattr(module, "make_current", devices.make_current)

    async def test() -> None:
        hook = torch.nn.modules.module.register_module_forward_pre_hook(devices.launch)
        spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu", engine=kind)
        engine = build_engine(
            spec, EngineOptions(lambda spec, report: tiny_model, max_running=2, torch_threads=1)
        )
        try:
            await engine.load(lambda progress: None)
            await engine.warm(("Hello",), ("A prefix that is long enough to be kept by both.",))
            done = asyncio.Event()
            job = Job(
                TokenTask(
                    request_id="id",
                    prompt_ids=(5, 6, 7),
                    sampling=SamplingParams(temperature=0.0),
                    max_tokens=3,
                ),
                Mailbox(asyncio.get_running_loop()),
                on_done=done.set,
            )
            engine.start(job)
            await done.wait()
            assert isinstance(job.mailbox.terminal, Finish)
        finally:
            hook.remove()
            await engine.close()
        threads = {name for name, _ in devices.launches}
        assert len(threads) >= 2, "the loader's or the warmer's, and the engine's own"
        assert {device for _, device in devices.launches} == {torch.device("cpu")}

    run(test)
