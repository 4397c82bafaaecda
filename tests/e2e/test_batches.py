"""Batches by OpenAI's own client, and over the end of workers, servers and queues."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from box import pids, wait_until
from openai import NotFoundError, OpenAI
from openai.types import Batch
from programs import llmserve
from redis_server import running_redis
from server import Server, free_port, running_server

ENDED = {"completed", "failed", "expired", "cancelled"}
LINES = 1000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK_PORT = free_port()


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


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """One worker, and calls to this machine."""
    folder = tmp_path_factory.mktemp("single")
    with running_server(
        folder,
        tiny_model,
        jobs_dir=folder / "jobs",
        webhook_urls=f"http://127.0.0.1:{HOOK_PORT}",
        webhook_secret=SECRET,
    ) as server:
        yield server


def test_openais_client_runs_a_batch(single: Server) -> None:
    client = client_of(single)
    lines = [line(0), line(1, max_tokens=-1), line(2)]
    file = client.files.create(
        file=("lines.jsonl", jsonl(lines)),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert file.expires_at == file.created_at + 7200
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/completions",
        completion_window="24h",
        metadata={"who": "test"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    done = ended(client, batch.id)
    assert (done.status, done.metadata) == ("completed", {"who": "test"})
    assert custom_ids(client, done.output_file_id) == ["line-0", "line-2"]
    assert custom_ids(client, done.error_file_id) == ["line-1"]
    output = client.files.retrieve(done.output_file_id or "")
    assert output.expires_at == output.created_at + 3600
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert {one.purpose for one in client.files.list(limit=1)} == {"batch", "batch_output"}
    assert client.files.delete(file.id).deleted
    with pytest.raises(NotFoundError):
        client.files.content(file.id)


def test_openais_client_cancels_a_batch(single: Server) -> None:
    client = client_of(single)
    batch = begun(client, [line(n, max_tokens=100, ignore_eos=True) for n in range(300)])
    progressed(client, batch.id, 1)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = ended(client, batch.id)
    assert done.status == "cancelled"
    kept = custom_ids(client, done.output_file_id)
    assert done.request_counts is not None
    assert 1 <= len(kept) == done.request_counts.completed < 300
    single.wait_for_load(0, 0)


def test_a_chat_in_the_background_calls_back(single: Server) -> None:
    with scripted_hook() as (url, calls):
        client = client_of(single)
        chat = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=2,
            extra_body={"background": True, "webhook_url": url},
        )
        headers, content = calls.get(timeout=30)
        event = client.webhooks.unwrap(content, headers, secret=SECRET)
        assert (event.type, event.data.id) == ("chat.completion.completed", chat.id)
        whole = client.chat.completions.retrieve(chat.id)
        assert whole.id == chat.id
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 2


def test_the_command_line_runs_a_batch(single: Server, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(jsonl([line(0), line(1)]))
    begun_one = llmserve("batch", "submit", file, "--wait", "--url", single.url)
    assert begun_one.returncode == 0, begun_one.stderr
    batch_id = begun_one.stdout.strip()
    assert "completed  2/2" in begun_one.stderr
    assert batch_id in llmserve("batch", "status", "--url", single.url).stdout
    out = tmp_path / "out.jsonl"
    assert llmserve("batch", "fetch", batch_id, "-o", out, "--url", single.url).returncode == 0
    assert [json.loads(text)["custom_id"] for text in out.read_text().splitlines()] == [
        "line-0", "line-1",
    ]  # fmt: skip
    again = llmserve("batch", "cancel", batch_id, "--url", single.url)
    assert (again.returncode, again.stdout) == (2, "")
    assert "completed cannot be cancelled" in again.stderr
    errors = llmserve("batch", "fetch", batch_id, "--errors", "--url", single.url)
    assert (errors.returncode, errors.stdout) == (2, "")

    file.write_bytes(jsonl([line(0), line(0)]))
    failed = llmserve("batch", "submit", file, "--wait", "--url", single.url)
    assert failed.returncode == 1
    assert "line 2: another line has the custom_id" in failed.stderr


def test_a_large_file_is_never_whole_in_memory(single: Server, tmp_path: Path) -> None:
    file = tmp_path / "large.jsonl"
    with file.open("wb") as out:
        for number in range(100):
            out.write(jsonl([line(number, user="x" * 2**20)]))
    before = peak_bytes(single.process.pid)
    with file.open("rb") as opened:
        sent = httpx.post(
            single.url + "/v1/files",
            files={"file": ("large.jsonl", opened)},
            data={"purpose": "batch"},
            timeout=60,
        )
    assert sent.json()["bytes"] == file.stat().st_size
    with httpx.stream("GET", f"{single.url}/v1/files/{sent.json()['id']}/content") as answer:
        assert sum(map(len, answer.iter_raw())) == file.stat().st_size
    assert peak_bytes(single.process.pid) - before < 40 * 2**20


def peak_bytes(pid: int) -> int:
    """The most memory that a process or one of its children had so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    peaks = [
        int(text.split()[1]) * 1024
        for process in (str(pid), *children)
        for text in Path(f"/proc/{process}/status").read_text().splitlines()
        if text.startswith("VmHWM")
    ]
    return max(peaks)


@contextmanager
def scripted_hook() -> Iterator[tuple[str, queue.Queue[tuple[dict[str, str], bytes]]]]:
    """A server that takes calls: its URL, and the headers and the body of each."""
    calls: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            calls.put((dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", HOOK_PORT), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{HOOK_PORT}/done", calls
        finally:
            server.shutdown()


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
