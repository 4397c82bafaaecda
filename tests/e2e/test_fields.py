"""Fields that we do not serve: absent, a default, private ones that are told, others refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest
from bounded import run
from server import Server
from websockets.asyncio.client import connect

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
GENERATE = "/generate"
TOLD = "X-Ignored-Fields"
PART = {"type": "text", "text": "hi"}
BODIES: Mapping[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
    COMPLETIONS: {"prompt": "hi", "max_tokens": 1},
    GENERATE: {"prompt": "hi", "max_tokens": 1},
}
ABSENCES = (None, False, "", [], {})


@pytest.fixture(scope="module")
def server(guarded: Server) -> Server:
    return guarded


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer k1"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as running:
        yield running


def chat(*, message: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A chat whose message has more than it should."""
    return {
        **BODIES[CHAT],
        "messages": [{"role": "user", "content": "hi", **(message or {})}],
    } | fields


def parts(**fields: Any) -> dict[str, Any]:
    return chat(message={"content": [{**PART, **fields}]})


def assert_served(answer: httpx.Response, told: str | None = None) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers.get(TOLD) == told


def assert_refused(answer: httpx.Response, param: str) -> str:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert repr(param) in error["message"]
    return str(error["message"])


@pytest.mark.parametrize("field", ["tools", "response_format", "suffix", "nobody_knows_this"])
@pytest.mark.parametrize("path", BODIES)
def test_absence_is_absence_in_every_field_that_we_do_not_serve(
    client: httpx.Client, path: str, field: str
) -> None:
    for absence in (*ABSENCES, {"a": None}, {"a": {"b": None}}):
        assert_served(client.post(path, json=BODIES[path] | {field: absence}))


def test_absence_is_absence_at_every_depth(client: httpx.Client) -> None:
    for absence in ABSENCES:
        for field in ("tool_calls", "function_call", "refusal", "audio", "annotations", "own"):
            assert_served(client.post(CHAT, json=chat(message={field: absence})))
        for field in ("image_url", "input_audio", "cache_control"):
            assert_served(client.post(CHAT, json=parts(**{field: absence})))
        options = {"include_obfuscation": absence, "include_usage": None, "own": absence}
        assert_served(client.post(CHAT, json=chat(stream=True, stream_options=options)))
    assert_served(client.post(CHAT, json=chat(stream=None, stream_options={})))
    assert_served(client.post(CHAT, json=chat(stream_options={"include_usage": False})))
    assert_served(client.post(GENERATE, json=BODIES[GENERATE] | {"stream": None}))
    assert_served(client.get("/stream?prompt=hi&max_tokens=1&echo=&own="))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "text"}),
        ("response_format", {"type": "text", "json_schema": None}),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("function_call", "none"),
        ("parallel_tool_calls", True),
        ("best_of", 1),
        ("service_tier", "auto"),
        ("service_tier", "default"),
        ("modalities", ["text"]),
        ("verbosity", "medium"),
        ("spaces_between_special_tokens", True),
        ("add_generation_prompt", True),
        ("length_penalty", 1.0),
        ("length_penalty", 1),
    ],
)
def test_a_documented_default_asks_for_nothing(
    client: httpx.Client, field: str, value: object
) -> None:
    for path in (CHAT, COMPLETIONS):
        assert_served(client.post(path, json=BODIES[path] | {field: value}))


def test_no_logprobs_at_all_may_be_asked_for(client: httpx.Client) -> None:
    assert_served(client.post(CHAT, json=chat(top_logprobs=0)))
    assert_served(client.post(CHAT, json=chat(top_logprobs=0, logprobs=False)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text", "audio"]),
        ("suffix", "the end"),
        ("spaces_between_special_tokens", False),
        ("use_beam_search", True),
        ("chat_template", "{{ messages }}"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(
    client: httpx.Client, field: str, value: object
) -> None:
    for path, body in BODIES.items():
        words = assert_refused(client.post(path, json=body | {field: value, "own": 1}), field)
        assert "is not supported by this server" in words


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (GENERATE, "logprobs", 1),
        (GENERATE, "n", 2),
        (GENERATE, "max_completion_tokens", 5),
        (GENERATE, "messages", [{"role": "user", "content": "hi"}]),
        (COMPLETIONS, "top_logprobs", 1),
        (COMPLETIONS, "tools", [{"type": "function", "function": {"name": "f"}}]),
        (GENERATE, "tool_choice", "required"),
        (GENERATE, "reasoning_effort", "high"),
        (COMPLETIONS, "chat_template_kwargs", {"enable_thinking": False}),
        (COMPLETIONS, "max_completion_tokens", 5),
        (CHAT, "prompt", "hi"),
        (CHAT, "echo", True),
        (CHAT, "best_of", 2),
        (CHAT, "best_of", True),
        (CHAT, "add_special_tokens", True),
        (GENERATE, "prompt_logprobs", 0),
        (GENERATE, "truncate_prompt_tokens", 5),
        (GENERATE, "return_token_ids", True),
    ],
)
def test_a_field_of_another_route_is_refused_by_name(
    client: httpx.Client, path: str, field: str, value: object
) -> None:
    words = assert_refused(client.post(path, json=BODIES[path] | {field: value}), field)
    assert "is not a field of this request" in words


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": [PART | {"thinking": "x"}]}, "content.0.thinking"),
        ({"role": "assistant", "audio": {"id": "x"}}, "audio"),
    ],
)
def test_a_message_that_we_cannot_read_is_refused_by_the_field_at_fault(
    client: httpx.Client, message: dict[str, Any], param: str
) -> None:
    words = assert_refused(client.post(CHAT, json=chat(message=message)), f"messages.0.{param}")
    assert "is not supported by this server" in words


@pytest.mark.parametrize("kind", ["thinking", "nonsense", 7])
def test_a_part_of_another_kind_is_told_as_a_part(client: httpx.Client, kind: object) -> None:
    answer = client.post(CHAT, json=chat(message={"content": [{"type": kind}]}))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages.0.content.0.type")
    assert "'text'" in error["message"]


def test_private_fields_are_served_and_told_at_every_depth(client: httpx.Client) -> None:
    message = {"content": [PART | {"cache_control": {"type": "ephemeral"}}] * 2, "own": 1}
    options = {"include_usage": True, "continuous_usage_stats": True, "mine": 1}
    body = chat(message=message, stream=True, stream_options=options, moderation={"a": "b"})
    told = "moderation, messages.own, messages.content.cache_control, stream_options.mine"
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.headers[TOLD].split(", ")) == set(told.split(", "))
    assert answer.text.endswith("data: [DONE]\n\n")
    for path in (COMPLETIONS, GENERATE):
        assert_served(client.post(path, json=BODIES[path] | {"session": "x"}), "session")
    assert_served(client.get("/stream?prompt=hi&max_tokens=1&_=17"), "_")


def test_the_official_client_may_send_what_it_likes(server: Server) -> None:
    caller = openai.OpenAI(base_url=server.url + "/v1", api_key="k1", max_retries=0)
    answer = caller.chat.completions.with_raw_response.create(
        model="tiny",
        messages=[{"role": "user", "content": "hi", "own": 1}],  # type: ignore[list-item,misc]
        max_tokens=2,
        metadata={"a": "b"},
        prompt_cache_key="x",
        service_tier="flex",
        extra_body={"own": True},
    )
    told = answer.headers[TOLD].split(", ")
    assert sorted(told) == ["messages.own", "own"]
    assert answer.parse().service_tier == "default"
    assert answer.parse().choices[0].message.role == "assistant"


def test_a_refusal_tells_them_too_and_a_page_may_read_them(client: httpx.Client) -> None:
    headers = {"Origin": "https://ui.example"}
    answer = client.post(GENERATE, json={"prompt": "x" * 90_000, "own": 1}, headers=headers)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.headers[TOLD] == "own"
    assert TOLD in answer.headers["access-control-expose-headers"].split(", ")


def test_names_are_made_safe_and_few_are_told(client: httpx.Client) -> None:
    odd = {"a b": 1, "x\r\ny": 1, "ü": 1, "": 1, "a,b": 1, "messages.x": 1, "z" * 500: 1}
    answer = client.post(GENERATE, json=BODIES[GENERATE] | odd)
    assert answer.headers[TOLD].split(", ") == [
        "a%20b",
        "x%0D%0Ay",
        "%C3%BC",
        "%22%22",
        "a%2Cb",
        "messages%2Ex",
        "z" * 64,
    ]
    many = {f"field{number}": 1 for number in range(1000)}
    told = client.post(GENERATE, json=BODIES[GENERATE] | many).headers[TOLD].split(", ")
    assert told == [*list(many)[:16], "+984"]


def test_the_log_tells_each_once_of_a_client_and_metrics_count(
    server: Server, client: httpx.Client
) -> None:
    before = server.metric("llmserve_ignored_fields_total", place="messages")
    for key in ("k1", "k2"):
        headers = {"Authorization": f"Bearer {key}"}
        for _ in range(3):
            body = chat(message={"told_once": "a secret"})
            assert_served(client.post(CHAT, json=body, headers=headers), "messages.told_once")
    lines = [line for line in server.log.splitlines() if "told_once" in line]
    assert ["key-1" in line for line in lines] == [True, False]
    assert "key-2" in lines[1]
    assert "a secret" not in server.log
    assert server.metric("llmserve_ignored_fields_total", place="messages") == before + 6


@pytest.mark.parametrize(
    ("forwarded", "told"),
    [
        ("203.0.113.7", "anonymous at 203.0.113.7 sends"),
        ("203.0.113.8:4711", "anonymous at 203.0.113.8 sends"),
        ("2001:DB8::7", "anonymous at 2001:db8::7 sends"),
        ("fe80::1%\x9b31m", "anonymous at fe80::1 sends"),
        ("evil\x9b31m  2026-01-01 ERROR - server compromised logger=x", "anonymous sends"),
        ("x" * 30_000, "anonymous sends"),
    ],
)
def test_a_forwarded_address_is_an_address(plain: Server, forwarded: str, told: str) -> None:
    name = f"field-{zlib.crc32(forwarded.encode())}"
    headers = {"X-Forwarded-For": forwarded.encode("latin-1")}
    answer = httpx.post(plain.url + GENERATE, json=BODIES[GENERATE] | {name: 1}, headers=headers)
    assert_served(answer, name)

    async def test() -> None:
        url = plain.url.replace("http", "ws") + "/ws"
        async with connect(url, additional_headers={"X-Forwarded-For": forwarded[:8000]}) as ws:
            await ws.send(json.dumps({"id": "a", "prompt": "hi", "max_tokens": 1, f"ws-{name}": 1}))
            while json.loads(await ws.recv())["type"] != "done":
                pass

    if forwarded.isascii():  # the client library sends no other
        run(test)
    lines = [line for line in plain.log.splitlines() if name in line]
    assert len(lines) == 1 + forwarded.isascii()
    assert all(told in line and len(line) < 400 for line in lines)
    assert "compromised" not in plain.log
    assert "\x9b" not in plain.log


def frames_of(server: Server, *sent: dict[str, Any], headers: bool = True) -> list[dict[str, Any]]:
    """What comes for these, up to as many last frames."""
    url = server.url.replace("http", "ws") + "/ws"
    got: list[dict[str, Any]] = []

    async def test() -> None:
        key = {"Authorization": "Bearer k1"} if headers else {}
        async with connect(url, additional_headers=key) as socket:
            for frame in sent:
                await socket.send(json.dumps(frame))
            while sum(frame["type"] in ("done", "error") for frame in got) < len(sent):
                got.append(json.loads(await socket.recv()))

    run(test)
    return got


def test_a_websocket_tells_them_in_the_last_frame(server: Server) -> None:
    told = frames_of(
        server,
        {"id": "a", "prompt": "hi", "max_tokens": 2, "own": 1, "stop": None, "nothing": []},
        {"id": "b", "prompt": "hi", "max_tokens": 2, "type": None},
        {"id": "c", "prompt": "x" * 90_000, "own": 1},
        {"id": "d", "prompt": "hi", "tools": [1]},
    )
    last = {frame["id"]: frame for frame in told if frame["type"] in ("done", "error")}
    assert (last["a"]["type"], last["a"]["ignored_fields"]) == ("done", ["own"])
    assert (last["b"]["type"], "ignored_fields" in last["b"]) == ("done", False)
    assert (last["c"]["type"], last["c"]["ignored_fields"]) == ("error", ["own"])
    assert last["d"]["error"]["param"] == "tools"


def test_a_cancel_may_have_private_fields_too(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/ws"

    async def test() -> None:
        async with connect(url, additional_headers={"Authorization": "Bearer k1"}) as socket:
            frame = {"id": "a", "prompt": "hi", "max_tokens": 1500, "ignore_eos": True, "own": 1}
            await socket.send(json.dumps(frame))
            await socket.send(json.dumps({"type": "cancel", "id": "a", "why": "enough"}))
            while (frame := json.loads(await socket.recv()))["type"] not in ("done", "error"):
                pass
        assert frame["finish_reason"] == "cancelled"
        assert set(frame["ignored_fields"]) == {"own", "why"}  # type: ignore[arg-type]

    run(test)


def test_a_strict_server_refuses_them(strict: Server) -> None:
    for path, body, param in (
        (CHAT, chat(message={"own": 1}), "messages.0.own"),
        (CHAT, parts(cache_control={"type": "x"}), "messages.0.content.0.cache_control"),
        (CHAT, chat(stream=True, stream_options={"own": 1}), "stream_options.own"),
        (CHAT, chat(moderation={"a": "b"}), "moderation"),
        (CHAT, chat(body=1), "body"),
        (CHAT, chat(query=1), "query"),
        (COMPLETIONS, BODIES[COMPLETIONS] | {"own": 1}, "own"),
        (GENERATE, BODIES[GENERATE] | {"max-tokens": 1}, "max-tokens"),
    ):
        words = assert_refused(httpx.post(strict.url + path, json=body), param)
        assert "is not a field of this request" in words
        assert_served(httpx.post(strict.url + path, json=BODIES[path] | {"own": None}))
    assert_refused(httpx.get(strict.url + "/stream?prompt=hi&own=1"), "own")
    for frame in ({"prompt": "hi", "own": 1}, {"type": "cancel", "own": 1}):
        [refused] = frames_of(strict, {"id": "a"} | frame, headers=False)
        assert refused["error"]["param"] == "own"
