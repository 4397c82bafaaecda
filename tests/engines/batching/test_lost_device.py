"""A device that is lost: at every stage of an engine's life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import run
from engines.batching.asked import Asked, engine_of

from llmserve.domain import (
    Failed,
)
from llmserve.engines import accelerator
from llmserve.engines.batching import engine as engine_module
from llmserve.engines.batching.compute import model_computation
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.engine import Generator
from llmserve.errors import DeviceLost, ModelBroken, ModelUnloaded

pytestmark = pytest.mark.usefixtures("no_thread_left")


async def _ask_in_vain(engine: Generator) -> None:
    """Until the engine refuses at once; what comes while its thread ends fails."""
    while isinstance((await Asked(engine, (5, 6), 2).events())[-1], Failed):
        pass


def test_a_lost_device_fails_what_runs_and_what_comes(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(runner: Runner, batch: Any, rows: Any) -> Any:
        raise RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            monkeypatch.setattr(Runner, "compute", lose)
            monkeypatch.setattr(model_computation, "answers", lambda device: False)
            asked = Asked(engine, (5, 6), 2)
            assert isinstance((await asked.events())[-1], Failed)
            assert engine.stats().seconds_since_step == float("inf")
            with pytest.raises(RuntimeError):
                await _ask_in_vain(engine)
            assert engine.stats().running == 0
            with pytest.raises(ModelUnloaded):
                await engine.warm(("Hello",), ())

    run(test)


@pytest.mark.parametrize("name", ["compute", "prepare"])
@pytest.mark.parametrize("is_alive", [True, False])
def test_a_device_that_is_lost_at_the_first_token_is_told_as_such(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_alive: bool
) -> None:
    def fail(*args: Any) -> Any:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    async def test() -> None:
        monkeypatch.setattr(Runner, name, fail)
        monkeypatch.setattr(model_computation, "answers", lambda device: is_alive)
        with pytest.raises(ModelBroken, match="cannot generate") as told:
            async with engine_of(tiny_model):
                pass
        assert isinstance(told.value, DeviceLost) is not is_alive

    run(test)


def test_a_device_that_is_lost_while_the_engine_is_built_is_told_as_such(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    async def test() -> None:
        monkeypatch.setattr(engine_module, "build_computation", fail)
        monkeypatch.setattr(accelerator, "answers", lambda device: False)
        with pytest.raises(DeviceLost, match="illegal memory access"):
            async with engine_of(tiny_model):
                pass

    run(test)


def test_an_error_of_a_device_that_still_answers_is_its_requests_own(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(runner: Runner, batch: Any, rows: Any) -> Any:
        raise torch.AcceleratorError("invalid configuration argument")

    async def test() -> None:
        async with engine_of(tiny_model) as engine:
            with monkeypatch.context() as patch:
                patch.setattr(Runner, "compute", refuse)
                assert isinstance((await Asked(engine, (5, 6), 2).events())[-1], Failed)
            assert len(await Asked(engine, (5, 6), 2).tokens()) == 2

    run(test)
