"""Keys and limits from outside: who gets in, what is counted, over several workers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from bounded import run
from programs import llmserve
from server import Server, running_server
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

KEYS = {
    "ops": ("--scope", "admin", "--scope", "metrics"),
    "user": (),
    "narrow": ("--model", "other"),
    "reader": ("--scope", "metrics"),
    "limited": ("--requests-per-minute", "6"),
    "narrowly": ("--concurrency", "2"),
}
REQUEST = {"prompt": "Once", "max_tokens": 2}


class House:
    """A server of two workers with a key file, and the command line that edits the file."""

    def __init__(self, server: Server, folder: Path, made: dict[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.key = made

    def keys(self, *arguments: str) -> str:
        return keys(self.folder, *arguments)

    def ask(self, key: str | None, **fields: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.post(
            self.server.url + "/generate", json=REQUEST | fields, headers=headers, timeout=60
        )


def keys(folder: Path, *arguments: str) -> str:
    done = llmserve("keys", *arguments, "--file", folder / "keys.json")
    done.check_returncode()
    return done.stdout.strip()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "models").mkdir()
    (folder / "models" / "other").symlink_to(tiny_model)  # what `narrow` is for
    made = {name: keys(folder, "create", name, *limits) for name, limits in KEYS.items()}
    with running_server(
        folder,
        tiny_model,
        workers=2,
        models_on_demand="other",
        keys_file=folder / "keys.json",
        metrics_access="key",
        accounting_log=folder / "usage.jsonl",
        log_format="json",
    ) as server:
        server.wait_for_log("is ready after", times=2)
        yield House(server, folder, made)


def wait_for(house: House, key: str, status: int) -> httpx.Response:
    """Every worker reads the file again within a second: ask until all of them must have."""
    agreed = 0
    for _ in range(800):
        answer = house.ask(key)
        agreed = agreed + 1 if answer.status_code == status else 0
        if agreed == 20:
            return answer
    raise AssertionError(f"no {status}: {answer.status_code} {answer.text}")


def test_no_key_a_wrong_key_and_a_revoked_key_are_401_on_every_door(house: House) -> None:
    for key in (None, "nonsense", "llms-00000000-" + "x" * 43):
        assert house.ask(key).status_code == 401
    for path in ("/v1/models", "/metrics", "/admin/status"):
        answer = httpx.get(house.server.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    client = openai.OpenAI(base_url=house.server.url + "/v1", api_key="nonsense", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    assert httpx.get(house.server.url + "/health").status_code == 200
    key = house.keys("create", "shortlived")
    wait_for(house, key, 200)
    house.keys("revoke", "shortlived")
    assert "revoked" in wait_for(house, key, 401).json()["error"]["message"]


ROUTES = (
    "/generate",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/admin/load",
    "/admin/unload",
    "/admin/reload",
    "/admin/warm",
)
UNREAD = {
    "4 MB to come": b"Content-Length: 4000000\r\n\r\n",
    "chunks to come": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "no JSON": b"Content-Length: 1\r\n\r\n{",
    "over the limit": b"Content-Length: 999999999999\r\n\r\n",
    "foreign encoding": b"Content-Encoding: br\r\nContent-Length: 9\r\n\r\n",
    "asked for first": b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("body", UNREAD.values(), ids=UNREAD)
@pytest.mark.parametrize("key", [b"", b"Authorization: Bearer nonsense\r\n"], ids=["no", "wrong"])
def test_keys_come_before_bodies_on_every_route(house: House, key: bytes, body: bytes) -> None:
    for path in ROUTES:
        with socket.create_connection(("127.0.0.1", house.server.port), timeout=20) as stranger:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            stranger.sendall(head.encode() + key + body)
            answer = b""
            while not answer.endswith(b"}}"):
                part = stranger.recv(65536)
                assert part, answer
                answer += part
        assert answer.startswith(b"HTTP/1.1 401"), (path, answer)
        assert b"invalid_api_key" in answer


def test_health_and_unknown_routes_want_no_key(house: House) -> None:
    for path, status in {"/health": 200, "/health/ready": 200, "/nowhere": 404}.items():
        assert httpx.get(house.server.url + path).status_code == status
    assert httpx.delete(house.server.url + "/generate").status_code == 405


def test_a_websocket_wants_a_key_and_takes_it_as_header_or_subprotocol(house: House) -> None:
    key = house.key["user"]
    url = house.server.url.replace("http", "ws") + "/ws"

    async def test() -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url):
                pass
        assert refused.value.response.status_code == 401
        async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            await socket.send(json.dumps({"id": "a"} | REQUEST))
            while (frame := json.loads(await socket.recv()))["type"] == "token":
                pass
            assert frame["type"] == "done"
        protocols = ["llmserve", f"llmserve.key.{key}"]
        async with connect(url, subprotocols=protocols) as socket:  # type: ignore[arg-type]
            assert socket.subprotocol == "llmserve"

    run(test)


def test_a_key_revoked_meanwhile_ends_what_an_open_websocket_may(house: House) -> None:
    key = house.keys("create", "revoked-on-socket")
    wait_for(house, key, 200)
    url = house.server.url.replace("http", "ws") + "/ws"

    async def test() -> None:
        async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            await asyncio.to_thread(house.keys, "revoke", "revoked-on-socket")
            for number in range(400):
                await socket.send(json.dumps({"id": str(number)} | REQUEST))
                while (frame := json.loads(await socket.recv()))["type"] == "token":
                    pass
                if frame["type"] == "error":
                    break
            assert frame["error"]["code"] == "invalid_api_key"

    run(test)


def test_a_key_is_for_its_scopes_and_models(house: House) -> None:
    refused = house.ask(house.key["narrow"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "model")
    reader = house.key["reader"]
    refused = house.ask(reader)
    assert refused.status_code == 403
    assert "may not generate" in refused.json()["error"]["message"]
    headers = {"Authorization": f"Bearer {reader}"}
    assert httpx.get(house.server.url + "/metrics", headers=headers).status_code == 200
    assert httpx.get(house.server.url + "/admin/status", headers=headers).status_code == 403


def test_requests_per_minute_hold_over_all_workers(house: House) -> None:
    answers = [house.ask(house.key["limited"]) for _ in range(12)]
    refused = [a for a in answers if a.status_code == 429]
    # A place comes back every ten seconds; these take two.
    assert 4 <= len(refused) <= 6
    error = refused[0].json()["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert "6 requests per minute" in error["message"]
    assert int(refused[0].headers["Retry-After"]) >= 1
    headers = answers[0].headers
    assert headers["x-ratelimit-limit-requests"] == "6"
    assert int(headers["x-ratelimit-remaining-requests"]) <= 5
    assert headers["x-ratelimit-reset-requests"]


def test_concurrency_holds_over_all_workers(house: House) -> None:
    key = house.key["narrowly"]

    async def test() -> None:
        headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            body = REQUEST | {"max_tokens": 300, "ignore_eos": True}
            url = house.server.url + "/generate"
            answers = await asyncio.gather(*(client.post(url, json=body) for _ in range(6)))
            assert sorted(a.status_code for a in answers) == [200, 200, 429, 429, 429, 429]
            again = await client.post(url, json=REQUEST)
            assert again.status_code == 200

    run(test)


def test_usage_is_counted_per_key_and_written_down(house: House) -> None:
    key = house.key["user"]
    before = entries(house, "user")
    answer = house.ask(key, max_tokens=5, ignore_eos=True)
    usage = answer.json()["usage"]
    for _ in range(1000):
        found = entries(house, "user")
        if len(found) > len(before):
            break
    entry = found[-1]
    assert entry["request_id"] == answer.headers["X-Request-ID"]
    assert entry["prompt_tokens"] == usage["prompt_tokens"]
    assert entry["completion_tokens"] == 5
    assert entry["outcome"] == "length"
    assert key not in (house.folder / "usage.jsonl").read_text()
    assert key not in house.server.log


def entries(house: House, name: str) -> list[dict[str, object]]:
    lines = (house.folder / "usage.jsonl").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["key"] == name]


def test_the_access_line_has_the_timings(house: House) -> None:
    answer = house.ask(house.key["user"])
    identity = answer.headers["X-Request-ID"]
    for _ in range(1000):
        lines = [json.loads(li) for li in house.server.log.splitlines() if identity in li]
        access = [li for li in lines if li.get("status") == 200]
        if access:
            break
    line = access[0]
    assert line["key"] == "user"
    assert line["completion_tokens"] == 2
    assert line["queue_ms"] >= 0
    assert line["ttft_ms"] > 0
    assert line["duration_ms"] >= line["ttft_ms"]
