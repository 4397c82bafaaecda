"""What is Redis's alone: it may be away, killed, forgetful or missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bounded import run
from job_queues import LEASE, QUOTAS, good, numbers, running, taken
from loguru import logger
from manual_clock import ManualClock
from redis_server import running_redis
from server import free_port

from llmserve.errors import ConfigurationError, StoreFailed
from llmserve.jobs.check import check_jobs
from llmserve.jobs.line import LineKey
from llmserve.jobs.redis.queue import open_redis_queue


def test_what_was_told_survives_the_end_of_redis(tmp_path: Path) -> None:
    clock = ManualClock()
    with running_redis(tmp_path) as redis:

        async def test() -> None:
            async with open_redis_queue(redis.url, QUOTAS, clock) as queue:
                await running(queue, 3)
                held = await taken(queue, "one", 2)
                assert await queue.finish(LineKey("batch_1", 1), good(1))
                redis.kill()
                with pytest.raises(StoreFailed):
                    await queue.finish(LineKey("batch_1", 2), good(2))
                redis.start()
                assert await queue.results("batch_1", 0, 9) == [good(1)]
                assert await queue.hold_lines("one", [held[1].key], LEASE) == {held[1].key}
                assert await queue.finish(LineKey("batch_1", 2), good(2))
                assert not await queue.finish(LineKey("batch_1", 1), good(1))
                assert numbers(await taken(queue, "two")) == [3]

        run(test)


def test_a_server_may_start_before_redis(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_redis_queue(f"redis://127.0.0.1:{free_port()}", QUOTAS) as queue:
            with pytest.raises(StoreFailed):
                await queue.depth()

    run(test)


def test_the_command_line_wants_redis_to_answer(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigurationError, match="queue_url: Redis cannot be used"):
        check_jobs(tmp_path, url)


def test_a_redis_that_may_forget_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="WARNING")
    try:
        with running_redis(tmp_path / "durable") as redis:
            check_jobs(tmp_path, redis.url)
            assert told == []
        with running_redis(tmp_path / "forgetful", fsync="everysec") as redis:
            check_jobs(tmp_path, redis.url)
    finally:
        logger.remove(sink)
    assert "appendonly yes and appendfsync always" in told[0]


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from llmserve.jobs.redis.connection import Connection\n"
        "Connection('redis://127.0.0.1')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "needs the extra `redis`" in done.stderr
