"""Health as `grpc_health_probe` and load balancers ask for it."""

from __future__ import annotations

import grpc
import pytest
from bounded import run
from fake_engine import FakeEngine, SlowEngine
from grpc_desk import Desk, Opening, refusal
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub

from llmserve.errors import ModelBroken

Status = pb.HealthCheckResponse


async def status(d: Desk, name: str = "") -> int:
    answer = await HealthStub(d.channel).Check(pb.HealthCheckRequest(service=name))
    return int(answer.status)


@pytest.mark.parametrize("name", ["", "llmserve.v1.Generation", "fake", "nick"])
def test_a_watcher_sees_a_model_come_and_the_server_go(desk: Opening, name: str) -> None:
    async def test() -> None:
        engine = SlowEngine()
        async with desk(engine) as d:
            assert await status(d, name) == Status.NOT_SERVING
            watch = HealthStub(d.channel).Watch(pb.HealthCheckRequest(service=name))
            assert (await watch.read()).status == Status.NOT_SERVING
            engine.may_load.set()
            assert (await watch.read()).status == Status.SERVING
            assert await status(d, name) == Status.SERVING
            d.container.service.begin_drain()
            assert (await watch.read()).status == Status.NOT_SERVING
            assert await status(d, name) == Status.NOT_SERVING

    run(test)


def test_a_name_that_is_not_served(desk: Opening) -> None:
    async def test() -> None:
        async with desk() as d:
            health = HealthStub(d.channel)
            request = pb.HealthCheckRequest(service="other")
            error = await refusal(health.Check(request))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            watch = health.Watch(request)
            assert (await watch.read()).status == Status.SERVICE_UNKNOWN
            watch.cancel()

    run(test)


def test_a_model_that_cannot_be_loaded_does_not_serve(desk: Opening) -> None:
    async def test() -> None:
        async with desk(FakeEngine(load_error=ModelBroken("no weights"))) as d:
            await d.container.loader.loaded()
            assert await status(d) == await status(d, "fake") == Status.NOT_SERVING

    run(test)


def test_all_are_listed_without_a_key(desk: Opening) -> None:
    async def test() -> None:
        async with desk(api_keys=("k1",)) as d:
            await d.container.loader.loaded()
            listed = await HealthStub(d.channel).List(pb.HealthListRequest())
            assert {name: answer.status for name, answer in listed.statuses.items()} == {
                "": Status.SERVING,
                "llmserve.v1.Generation": Status.SERVING,
                "fake": Status.SERVING,
            }

    run(test)
