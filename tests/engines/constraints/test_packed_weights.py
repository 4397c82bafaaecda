"""Where kernels have packed the weights, as on a CPU with bfloat16, nothing else is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from bounded import run
from engines.constraints.test_engines import CITY, answers

from llmserve.domain import EngineKind, FinishReason, ModelSpec
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_constraints_and_biases_hold(tiny_model: Path) -> None:
    async def test() -> None:
        spec = ModelSpec(
            "tiny", path=tiny_model, dtype="bfloat16", device="cpu", engine=EngineKind.BATCHING
        )
        options = EngineOptions(lambda spec, report: tiny_model, max_running=8, torch_threads=1)
        engine = build_engine(spec, options)
        try:
            await engine.load(lambda progress: None)
            for answer in await answers(engine, [CITY] * 4):
                assert answer.text in ("Paris", "Rome", "Oslo")
                assert answer.reason is FinishReason.STOP
            (biased,) = await answers(engine, [None], logit_bias=((77, 1e6),), max_tokens=3)
            assert biased.ids == (77, 77, 77)
        finally:
            await engine.close()

    run(test)
