"""Prompts that take long to become tokens, on a real server: a template that loops, and a flood."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bounded import run
from box import pids, until
from server import Server, running_server

LOOP = (
    "{% for m in messages %}{% if 'evil' in m.content %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SECONDS = 30.0
"""Until an answer of a server that is slow because a template holds Python's lock."""


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("preparation")
    looping = folder / "looping"
    shutil.copytree(tiny_model, looping)
    (looping / "chat_template.jinja").write_text(LOOP)
    settings = {"hang_timeout_seconds": 12.0, "drain_timeout_seconds": 0.2}
    with running_server(folder, tiny_model, looping, **settings) as running:
        yield running


def chat(model: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}]} | fields


def test_a_template_that_loops_stops_its_own_requests_only(server: Server) -> None:
    async def test() -> None:
        (first,) = pids(server).values()
        hangs = server.metric("llmserve_worker_restarts_total", reason="hung")
        async with httpx.AsyncClient(base_url=server.url, timeout=SECONDS) as client:
            evil = [
                asyncio.create_task(
                    client.post("/v1/chat/completions", json=chat("looping", "evil", timeout=2))
                )
                for _ in range(10)
            ]
            while (await client.get("/health")).json()["seconds_since_step"]["looping"] is None:
                assert not any(task.done() for task in evil)
            others = await asyncio.gather(
                client.post("/generate", json={"model": "tiny", "prompt": "hi", "max_tokens": 2}),
                client.post("/v1/chat/completions", json=chat("tiny", "hi", max_tokens=2)),
                client.get("/metrics"),
            )
            assert [answer.status_code for answer in others] == [200] * 3
            for answer in await asyncio.gather(*evil):
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "wait_timeout"
                assert "made into tokens" in answer.json()["error"]["message"]
        await until(lambda: pids(server).get(0, first) != first)
        assert "chat template or tokenizer of looping hangs" in server.log
        assert server.metric("llmserve_worker_restarts_total", reason="hung") - hangs == 1
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            answer = await client.post(
                "/v1/chat/completions", json=chat("looping", "hi", max_tokens=2)
            )
        assert answer.status_code == 200

    run(test, seconds=200)


def test_long_prompts_are_refused_by_their_length_and_short_ones_do_not_wait_for_them(
    server: Server,
) -> None:
    async def test() -> None:
        long = "<|im_end|>" * 390_000
        async with httpx.AsyncClient(base_url=server.url, timeout=SECONDS) as client:
            bodies: list[tuple[str, dict[str, Any]]] = [
                ("/v1/chat/completions", chat("tiny", long)),
                ("/generate", {"prompt": "ab cd efg " * 390_000}),
            ]
            flood = [asyncio.create_task(client.post(path, json=body)) for path, body in bodies * 4]
            begun = time.monotonic()
            answer = await client.post("/generate", json={"prompt": "hi", "max_tokens": 2})
            assert answer.status_code == 200
            assert time.monotonic() - begun < SECONDS / 2
            for refused in await asyncio.gather(*flood):
                assert refused.status_code == 400
                assert refused.json()["error"]["code"] == "context_length_exceeded"

    run(test, seconds=200)
