"""Batches by OpenAI's own client, and over the end of workers, servers and queues."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from box import pids, wait_until
from openai import OpenAI
from openai.types import Batch
from redis_server import running_redis
from server import Server, running_server

ENDED = {"completed", "failed", "expired", "cancelled"}
LINES = 1000


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=8, timeout=30)


def line(number: int, **fields: object) -> dict[str, Any]:
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"prompt": f"Number {number}", "max_tokens": 1, "temperature": 0, **fields},
    }


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def begun(client: OpenAI, lines: list[dict[str, Any]]) -> Batch:
    file = client.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
    )


def ended(client: OpenAI, batch_id: str, seconds: float = 90.0) -> Batch:
    deadline = time.monotonic() + seconds
    while (batch := client.batches.retrieve(batch_id)).status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
    return batch


def custom_ids(client: OpenAI, file_id: str | None) -> list[str]:
    if file_id is None:
        return []
    return [json.loads(text)["custom_id"] for text in client.files.content(file_id).iter_lines()]


@contextmanager
def box(folder: Path, model: Path, **settings: object) -> Iterator[Server]:
    with running_server(
        folder, model, workers=2, jobs_dir=folder / "jobs", jobs_lease_seconds=2, **settings
    ) as server:
        yield server


def killed(server: Server) -> None:
    """`kill -9` of the supervisor and of all of its workers."""
    for pid in (server.process.pid, *pids(server).values()):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()


def progressed(client: OpenAI, batch_id: str, lines: int) -> None:
    """Wait until so many lines have their result."""

    def has() -> bool:
        counts = client.batches.retrieve(batch_id).request_counts
        return counts is not None and counts.completed >= lines

    wait_until(has, f"{lines} lines are done")


def run_to_the_end(
    folder: Path, model: Path, on_the_way: Callable[[], None], **settings: object
) -> None:
    """A batch over the end of one worker and, twice, of the server."""
    with ExitStack() as stack:
        first = stack.enter_context(box(folder, model, **settings))
        batch = begun(client_of(first), [line(number) for number in range(LINES)])
        progressed(client_of(first), batch.id, LINES // 10)
        os.kill(next(iter(pids(first).values())), signal.SIGKILL)
        progressed(client_of(first), batch.id, LINES // 4)
        killed(first)

        second = stack.enter_context(box(folder, model, **settings))
        progressed(client_of(second), batch.id, LINES // 2)
        on_the_way()
        progressed(client_of(second), batch.id, LINES * 3 // 4)
        killed(second)

        third = stack.enter_context(box(folder, model, **settings))
        client = client_of(third)
        done = ended(client, batch.id)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.request_counts.failed) == (LINES, 0)
        assert done.error_file_id is None
        counted = Counter(custom_ids(client, done.output_file_id))
        assert counted == Counter(f"line-{number}" for number in range(LINES))


@pytest.mark.timeout(400)
def test_every_line_is_there_once_whoever_is_killed(tmp_path: Path, tiny_model: Path) -> None:
    run_to_the_end(tmp_path, tiny_model, lambda: None)


@pytest.mark.timeout(400)
def test_every_line_is_there_once_when_redis_is_killed_too(
    tmp_path: Path, tiny_model: Path
) -> None:
    with running_redis(tmp_path / "redis") as redis:

        def restart() -> None:
            redis.kill()
            redis.start()

        run_to_the_end(tmp_path, tiny_model, restart, queue_url=redis.url)
