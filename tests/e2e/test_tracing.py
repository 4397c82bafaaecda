"""A caller's trace through a real server to a real collector."""

from __future__ import annotations

from pathlib import Path

import httpx
from collector import running_collector
from server import running_server

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_continues_its_callers_trace(tiny_model: Path, tmp_path: Path) -> None:
    with (
        running_collector() as collector,
        running_server(tmp_path, tiny_model, otlp_endpoint=collector.url) as server,
    ):
        answer = httpx.post(
            server.url + "/generate",
            json={"prompt": "hi", "max_tokens": 4, "ignore_eos": True},
            headers={"traceparent": PARENT, "X-Request-ID": "traced"},
        )
        assert answer.status_code == 200
        assert server.stop() == 0  # sends what is left
        names = {span.name for span in collector.spans}
        assert names == {"generate tiny", "queue", "prefill", "decode"}
        assert {s.trace_id.hex() for s in collector.spans} == {PARENT.split("-")[1]}
