"""Which thread reads a body."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from llmserve.api.edge import json as api_json
from llmserve.api.edge.route import LARGE_BYTES


@pytest.mark.parametrize("is_large", [False, True])
def test_a_large_body_is_read_beside_the_event_loop(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    readers: list[str] = []
    parse = api_json.checked_json

    def spy(body: bytes, max_depth: int) -> Any:
        readers.append(threading.current_thread().name)
        return parse(body, max_depth)

    monkeypatch.setattr(api_json, "checked_json", spy)
    headers = {"Content-Type": "application/json"}
    body = b'{"prompt": ""}' + b" " * (LARGE_BYTES if is_large else 0)
    answer = client.post("/generate", content=body, headers=headers)
    assert answer.json()["error"]["param"] == "prompt"
    [reader] = readers
    assert reader.startswith("asyncio_") == is_large  # a thread of the loop's pool
