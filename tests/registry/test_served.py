"""A model as the registry keeps it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_engine import FakeEngine

from llmserve.domain import EngineInfo, EngineStats, LoadProgress, ModelSpec
from llmserve.engines.engine import Engine
from llmserve.errors import DeviceLost, InvalidRequest
from llmserve.registry.served import ServedModel


class Embedder(Engine):
    """An engine that runs no jobs."""

    capacity = 1
    info: EngineInfo = FakeEngine.info

    async def load(self, on_progress: Callable[[LoadProgress], None]) -> None:
        pass

    def stats(self) -> EngineStats:
        return EngineStats(seconds_since_step=1.0, seconds_preparing=2.0)

    async def close(self) -> None:
        pass


def test_a_request_that_generates_gets_a_generator() -> None:
    engine = FakeEngine()
    assert ServedModel(ModelSpec("m"), engine=engine).generator is engine


def test_a_model_that_does_something_else_says_so() -> None:
    with pytest.raises(InvalidRequest, match="does not generate") as refused:
        _ = ServedModel(ModelSpec("m"), engine=Embedder()).generator
    assert refused.value.param == "model"


def test_the_oldest_sign_of_life_counts() -> None:
    assert ServedModel(ModelSpec("m")).seconds_since_step is None
    assert ServedModel(ModelSpec("m"), engine=Embedder()).seconds_since_step == 2.0


def test_a_lost_device_is_silent_for_ever() -> None:
    model = ServedModel(ModelSpec("m"), error=DeviceLost("gone"))
    assert model.seconds_since_step == float("inf")
