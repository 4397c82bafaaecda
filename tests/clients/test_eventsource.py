"""npm's `eventsource`: a connection that is cut is read on, and nothing is generated twice."""

from __future__ import annotations

import httpx
from client_session import node_session
from server import Server


def test_a_cut_connection_is_read_on_and_the_end_is_the_end(demo_host: Server) -> None:
    before = demo_host.metric("llmserve_request_success_total")
    report = node_session("eventsource_session.mjs", demo_host.url)
    assert demo_host.metric("llmserve_request_success_total") - before == 1
    assert report["connections"] >= 2, "the first one was cut"
    numbers = [int(event_id.rpartition("/")[2]) for event_id in report["ids"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len({event_id.rpartition("/")[0] for event_id in report["ids"]}) == 1
    assert report["done"]["finish_reason"] == "length"
    assert report["code"] == 204, "it stays away"
    asked = {"prompt": "Once upon a time", "max_tokens": 200, "temperature": 0, "ignore_eos": True}
    whole = httpx.post(demo_host.url + "/generate", json=asked, timeout=60).json()
    assert report["text"] == whole["result"]
