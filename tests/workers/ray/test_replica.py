"""A replica that is hung, broken or will not let go; the rest is end to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from bounded import run
from needs import needs_package

needs_package("ray")

from llmserve.errors import ModelBroken  # noqa: E402
from llmserve.registry.served import ModelStatus  # noqa: E402
from llmserve.settings import Settings  # noqa: E402
from llmserve.workers.ray import replica as replicas  # noqa: E402
from llmserve.workers.ray.replica import Replica  # noqa: E402


class Bare(Replica):
    """A replica that Python may collect, which awaits no `__del__`."""

    def __del__(self) -> None:
        pass


def replica_with(**model: Any) -> Replica:
    """A replica, without Ray's part, whose one model is like that."""

    async def load(model: Any) -> None:
        await asyncio.sleep(0)

    fields = {"status": ModelStatus.READY, "seconds_since_step": None, "error": None} | model
    served = SimpleNamespace(spec=SimpleNamespace(name="demo"), **fields)
    made = Bare.__new__(Bare)
    made._name = "r1"
    made._settings = Settings(hang_timeout_seconds=10, drain_timeout_seconds=0)
    made._stack = contextlib.AsyncExitStack()
    made._container = SimpleNamespace(
        registry=SimpleNamespace(models=[served]), loader=SimpleNamespace(load=load)
    )
    return made


BROKEN = {"status": ModelStatus.BROKEN, "error": ModelBroken("no weights")}


@pytest.mark.parametrize(
    ("model", "why"), [({"seconds_since_step": 11.0}, "silent for 11 s"), (BROKEN, "no weights")]
)
def test_ray_replaces_a_replica_that_is_hung_or_broken(model: dict[str, Any], why: str) -> None:
    async def test() -> None:
        with pytest.raises(RuntimeError, match=why):
            await replica_with(**model).check_health()

    run(test)


def test_a_busy_replica_is_healthy() -> None:
    run(replica_with(seconds_since_step=9.0).check_health)


def test_a_model_that_cannot_be_loaded_is_no_replica() -> None:
    async def test() -> None:
        with pytest.raises(RuntimeError, match="cannot be loaded: no weights"):
            await replica_with(**BROKEN)._loaded()

    run(test)


def test_what_does_not_let_go_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "EXIT_SECONDS", 0.01)

    @contextlib.asynccontextmanager
    async def hanging() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async def test() -> None:
        replica = replica_with()
        await replica._stack.enter_async_context(hanging())
        await Replica.__del__(replica)

    run(test)
