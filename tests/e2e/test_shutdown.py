"""SIGTERM: what runs may finish, what takes too long is told, nothing is left."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from box import wait_until
from reader import Reader
from server import Server, running_server


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_running_stream_finishes_and_new_work_is_refused(
    tiny_model: Path, tmp_path: Path, sig: signal.Signals
) -> None:
    with running_server(tmp_path, tiny_model) as server:
        reader = Reader(server, max_tokens=450)
        reader.start()
        assert reader.begun.wait(30)
        server.process.send_signal(sig)
        ready = server.wait_until("/health/ready", 503)
        assert ready.json()["status"] == "draining"
        refused = httpx.post(server.url + "/generate", json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        reader.join(60)
        assert reader.terminals == ["event: done"]
        assert server.stop(sig) == 0
        assert "Traceback" not in server.log


def test_what_outlives_the_drain_deadline_ends_with_an_error_event(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = {"max_running": 2, "drain_timeout_seconds": 0.2, "max_body_bytes": 100_000}
    with running_server(tmp_path, tiny_model, **settings) as server:
        readers = [Reader(server, max_tokens=480) for _ in range(4)]
        for reader in readers:
            reader.start()
        server.wait_for_load(2, 2)
        assert server.stop() == 0
        for reader in readers:
            reader.join(60)
            assert len(reader.terminals) == 1
        cut = [reader for reader in readers if reader.terminals == ["event: error"]]
        assert cut
        assert all('"shutting_down"' in "".join(reader.lines) for reader in cut)
        assert "Traceback" not in server.log


def test_several_workers_share_their_metrics(pair: Server) -> None:
    def counted() -> float:
        return pair.metric("llmserve_request_success_total")

    before = counted()
    for _ in range(6):
        assert httpx.post(pair.url + "/generate", json={"prompt": "hi"}).status_code == 200
    # The last one is counted once its response is over, which its client may know sooner.
    wait_until(lambda: counted() >= before + 6, "6 answers")
    assert counted() == before + 6
    assert pair.metric("llmserve_num_requests_running") == 0
