"""From real clients to a model's token and back: curl, openai, WebSocket, EventSource rules."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
from typing import Any

import httpx
import openai
import pytest
from demo_corpus.dialogues import read_faq
from server import Server
from websockets.asyncio.client import connect


def test_curl_streams_legible_english(demo: Server) -> None:
    curl = shutil.which("curl")
    if curl is None and not os.environ.get("CI"):
        pytest.skip("curl is missing; install it to run this test")
    assert curl, "curl is missing, and CI must have it"
    output = subprocess.run(
        [curl, "-sN", f"{demo.url}/stream?prompt=Once+upon+a+time&temperature=0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    text = "".join(
        json.loads(line[6:])["token"]
        for line in output.splitlines()
        if line.startswith('data: {"t')
    )
    assert len(text.split()) > 20
    assert text.isascii()
    assert " the " in text
    assert output.count("event: done") == 1
    assert '"usage"' in output.splitlines()[-2]


def test_openai_client_streams_a_chat(demo: Server) -> None:
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="unused")
    stream = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Which port does the server use?"}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "8000" in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(c.usage is None for c in chunks[:-1])


def test_openai_client_reads_whole_answers_and_errors(demo: Server) -> None:
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="unused", max_retries=0)
    answer = client.completions.create(
        model="default", prompt=["Once upon", "The fox"], n=2, seed=1, max_tokens=5
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.completion_tokens == 20
    with pytest.raises(openai.NotFoundError, match="did you mean 'demo'"):
        client.models.retrieve("dmo")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "hi"}], top_logprobs=2
        )
    assert refused.value.param == "top_logprobs"


def test_an_answer_can_be_sent_back_in_the_next_turn(demo: Server) -> None:
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": "Hello"}]
    first = client.chat.completions.create(model="demo", messages=messages, temperature=0)
    messages += [first.choices[0].message, {"role": "user", "content": "Do I need a GPU?"}]
    second = client.chat.completions.create(model="demo", messages=messages, temperature=0)
    assert "CPU" in second.choices[0].message.content


def test_a_prompt_is_read_from_the_cache_by_those_who_know_its_salt(demo: Server) -> None:
    prompt = "The keeper of the salt mill writes everything down. " * 4
    tokens: dict[str, list[int]] = {}
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        for salt in ("mine", "yours", "mine"):
            body = {"prompt": prompt, "max_tokens": 1, "cache_salt": salt}
            usage = client.post("/v1/completions", json=body).json()["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            tokens.setdefault(salt, []).append(cached)
            assert cached < usage["prompt_tokens"]
            native = client.post("/generate", json={**body, "cache_salt": salt + "?"})
            assert native.status_code == 200
    assert tokens["yours"] == [0]
    assert tokens["mine"][0] == 0
    assert tokens["mine"][1] >= 16
    with httpx.Client(base_url=demo.url) as client:
        refused = client.post("/generate", json={"prompt": prompt, "cache_salt": ""})
    assert refused.status_code == 400
    assert "cache_salt" in refused.text


def test_the_demo_model_knows_its_faq(demo: Server) -> None:
    faq = read_faq()

    async def choices() -> list[Any]:
        async with httpx.AsyncClient(base_url=demo.url, timeout=60) as client:
            answers = [
                client.post(
                    "/v1/chat/completions",
                    json={
                        "messages": [{"role": "user", "content": entry.ask[0]}],
                        "temperature": 0,
                        "max_tokens": 120,
                    },
                )
                for entry in faq
            ]
            return [a.json()["choices"][0] for a in await asyncio.gather(*answers)]

    right = sum(
        choice["finish_reason"] == "stop" and entry.accepts(choice["message"]["content"])
        for entry, choice in zip(faq, asyncio.run(choices()), strict=True)
    )
    assert right >= 0.9 * len(faq)


def test_websocket_runs_several_prompts_and_cancels_one(demo: Server) -> None:
    async def converse() -> dict[str, list[dict[str, object]]]:
        frames: dict[str, list[dict[str, object]]] = {"a": [], "b": []}
        async with connect(demo.url.replace("http", "ws") + "/ws") as socket:
            await socket.send(json.dumps({"id": "a", "prompt": "Once upon a time", "seed": 1}))
            endless = {"id": "b", "prompt": "The fox", "max_tokens": 900, "ignore_eos": True}
            await socket.send(json.dumps(endless))
            async with asyncio.timeout(60):
                async for message in socket:
                    frame = json.loads(message)
                    frames[frame["id"]].append(frame)
                    if len(frames["b"]) == 3:
                        await socket.send(json.dumps({"type": "cancel", "id": "b"}))
                    if {f["type"] for fs in frames.values() for f in fs[-1:]} == {"done"}:
                        return frames
        raise AssertionError("the socket closed early")

    frames = asyncio.run(converse())
    assert frames["a"][-1]["finish_reason"] in {"stop", "length"}
    assert frames["b"][-1]["finish_reason"] == "cancelled"
    assert [f["type"] for f in frames["a"][:-1]] == ["token"] * (len(frames["a"]) - 1)


def test_a_cancel_right_behind_its_prompt_has_one_last_frame(demo: Server) -> None:
    async def converse() -> list[dict[str, object]]:
        frames = []
        async with connect(demo.url.replace("http", "ws") + "/ws") as socket:
            for i in range(10):
                endless = {"id": f"{i}", "prompt": "x", "max_tokens": 900, "ignore_eos": True}
                await socket.send(json.dumps(endless))
                await socket.send(json.dumps({"type": "cancel", "id": f"{i}"}))
            async with asyncio.timeout(30):
                while sum(f["type"] == "done" for f in frames) < 10:
                    frames.append(json.loads(await socket.recv()))
        return frames

    frames = asyncio.run(converse())
    done = [f for f in frames if f["type"] == "done"]
    assert sorted(str(f["id"]) for f in done) == [str(i) for i in range(10)]
    assert {f["finish_reason"] for f in done} == {"cancelled"}


def test_websocket_tells_of_bad_frames_and_lives_on(demo: Server) -> None:
    async def converse() -> list[dict[str, object]]:
        answers = []
        async with connect(demo.url.replace("http", "ws") + "/ws") as socket:
            for frame in (
                "{",
                "[1]",
                '{"id": "x"}',
                '{"id": "y", "prompt": "hi", "tools": [1]}',
                '{"id": "z", "prompt": "hi", "model": "nobody"}',
            ):
                await socket.send(frame)
                answers.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
            await socket.send('{"id": "ok", "prompt": "hi", "max_tokens": 1}')
            while (last := json.loads(await asyncio.wait_for(socket.recv(), 20)))["type"] != "done":
                pass
            answers.append(last)
        return answers

    answers = asyncio.run(converse())
    assert [a["type"] for a in answers] == ["error"] * 5 + ["done"]
    assert [a["id"] for a in answers] == [None, None, "x", "y", "z", "ok"]
    assert answers[3]["error"]["param"] == "tools"
    assert answers[4]["error"]["code"] == "model_not_found"


def test_every_event_has_the_id_that_a_reconnecting_browser_sends(demo: Server) -> None:
    """Some clients forget an id that comes without data, and would start the answer again."""
    headers = {"X-Request-ID": "mine"}
    url = demo.url + "/stream?prompt=hi&max_tokens=3"
    events = httpx.get(url, headers=headers, timeout=30).text.removesuffix("\n\n").split("\n\n")
    assert events[0] == ": accepted"
    assert len(events) >= 3
    for event in events[1:]:
        assert event.startswith("id: mine\n")
        assert "\ndata: {" in event


def test_a_reconnecting_browser_is_told_to_stay_away(demo: Server) -> None:
    answer = httpx.get(demo.url + "/stream?prompt=hi", headers={"Last-Event-ID": "old"})
    assert answer.status_code == 204


def test_streams_are_not_compressed_and_not_buffered_and_open_with_a_comment(demo: Server) -> None:
    with httpx.stream(
        "GET",
        demo.url + "/stream?prompt=hi",
        headers={"Accept-Encoding": "gzip", "X-Request-ID": "my-id"},
        timeout=30,
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-request-id"] == "my-id"
        body = answer.read().decode()
    assert body.startswith(": accepted\n\n")
    assert '"id":"my-id"' in body


def test_large_json_is_compressed(demo: Server) -> None:
    answer = httpx.get(demo.url + "/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(gzip.compress(answer.content)) < len(answer.content)


def test_a_stop_string_over_several_tokens_is_never_sent(demo: Server) -> None:
    body = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 60}
    free = httpx.post(demo.url + "/generate", json=body, timeout=60).json()["result"]
    stop = free[10:30]
    stopped = httpx.post(demo.url + "/v1/completions", json=body | {"stop": [stop]}, timeout=60)
    choice = stopped.json()["choices"][0]
    assert choice["text"] == free[: free.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


def test_concurrent_seeded_requests_give_what_each_gives_alone(demo: Server) -> None:
    def body(seed: int) -> dict[str, object]:
        return {"prompt": "One day", "seed": seed, "temperature": 1.5, "max_tokens": 30}

    with httpx.Client(base_url=demo.url, timeout=60) as client:
        alone = [client.post("/generate", json=body(s)).json()["result"] for s in range(4)]

    async def together() -> list[str]:
        async with httpx.AsyncClient(base_url=demo.url, timeout=60) as client:
            answers = [client.post("/generate", json=body(s)) for s in range(4)]
            return [a.json()["result"] for a in await asyncio.gather(*answers)]

    assert asyncio.run(together()) == alone
    assert len(set(alone)) == 4


def test_a_timeout_returns_what_there_is(demo: Server) -> None:
    body = {"prompt": "Hello", "max_tokens": 1000, "ignore_eos": True}
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        native = client.post("/generate", json=body | {"timeout": 0.3}).json()
        openai_like = client.post(
            "/v1/completions", json=body, headers={"X-Request-Timeout": "0.3"}
        ).json()
    assert native["finish_reason"] == "timeout"
    assert 0 < native["usage"]["completion_tokens"] < 1000
    choice = openai_like["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "timeout")


def test_logs_carry_the_request_id_and_never_the_prompt_or_the_key(demo: Server) -> None:
    secret = "unmistakable-words-of-a-prompt"
    httpx.get(
        demo.url + "/stream",
        params={"prompt": secret, "max_tokens": 2},
        headers={"X-Request-ID": "find-me-7", "Authorization": "Bearer unmistakable-key"},
        timeout=30,
    )
    httpx.post(demo.url + "/generate", json={"prompt": secret, "max_tokens": 2, "x": secret})

    async def knock() -> None:
        async with connect(demo.url.replace("http", "ws") + f"/ws?key={secret}"):
            pass

    asyncio.run(knock())
    demo.wait_for_load(0, 0)
    assert "find-me-7" in demo.log
    assert "unmistakable" not in demo.log
