"""Every queue, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_queues import Queues
from manual_clock import ManualClock
from redis_server import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(params=["sqlite", "redis"])
def queues(request: pytest.FixtureRequest, tmp_path: Path) -> Queues:
    """An empty one."""
    if request.param == "sqlite":
        return Queues(tmp_path, None, ManualClock())
    redis: RedisServer = request.getfixturevalue("redis_server")
    redis.flush()
    return Queues(tmp_path, redis, ManualClock())
