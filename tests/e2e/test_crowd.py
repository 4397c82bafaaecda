"""Two hundred streams at once: each ends once and says what it says alone."""

from __future__ import annotations

import asyncio
import json

import httpx
from server import Server

STREAMS = 200
PROMPTS = (
    "Once upon a time",
    "The little fox",
    "One sunny morning",
    "In a quiet forest there lived",
    "Tom was a brave boy",
)
BODY = {"temperature": 0, "max_tokens": 24}


async def _stream(client: httpx.AsyncClient, index: int) -> tuple[str, list[str]]:
    """The text and the terminal events of one stream; every transport has its share."""
    prompt = PROMPTS[index % len(PROMPTS)]
    body = BODY | {"prompt": prompt, "stream": True}
    path = "/v1/completions" if index % 2 else "/generate"
    parts, terminals = [], []
    async with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("event: ") or line == "data: [DONE]":
                terminals.append(line)
            elif line.startswith("data: "):
                payload = json.loads(line[6:])
                parts.append(
                    payload.get("token") or payload.get("choices", [{}])[0].get("text", "")
                )
    return "".join(parts), terminals


async def _watch_health(client: httpx.AsyncClient, stop: asyncio.Event) -> int:
    answered = 0
    while not stop.is_set():
        assert (await client.get("/health")).status_code == 200
        answered += 1
        await asyncio.sleep(0.05)
    return answered


def test_two_hundred_streams_end_once_and_say_what_they_say_alone(demo: Server) -> None:
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        alone = {
            prompt: client.post("/generate", json=BODY | {"prompt": prompt}).json()["result"]
            for prompt in PROMPTS
        }

    async def crowd() -> tuple[list[tuple[str, list[str]]], int]:
        limits = httpx.Limits(max_connections=STREAMS + 10)
        async with httpx.AsyncClient(base_url=demo.url, timeout=110, limits=limits) as client:
            stop = asyncio.Event()
            watch = asyncio.create_task(_watch_health(client, stop))
            answers = await asyncio.gather(*(_stream(client, i) for i in range(STREAMS)))
            stop.set()
            return answers, await watch

    answers, health_checks = asyncio.run(crowd())
    for index, (text, terminals) in enumerate(answers):
        assert terminals == (["data: [DONE]"] if index % 2 else ["event: done"])
        assert text == alone[PROMPTS[index % len(PROMPTS)]]
    assert health_checks > 0
    assert demo.metric("llmserve_event_loop_lag_seconds_count") > 0
