"""The real nginx on scripts/deploy/nginx/nginx.conf: refusals first, then streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
from bounded import run
from deploy.instance import running_instance
from needs import needs
from proxy import Proxy, configure, running_proxy
from server import Server, free_port
from upstream import Upstream, running_upstream
from websockets.asyncio.client import connect

from llmserve.api.playground.files import HEADERS, read_files


def error_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    body = response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return response.status_code, body["code"]


async def get(proxy: Proxy, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
        return await client.get(path)


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    nginx = needs("nginx")
    configuration = configure(tmp_path, [free_port()], free_port(), free_port())
    tested = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-c", configuration],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stderr


def test_without_an_instance_the_error_can_be_read(tmp_path: Path) -> None:
    with running_proxy(tmp_path, [free_port()]) as proxy, proxy.client() as client:
        answer = client.get("/v1/models")
        assert error_of(answer) == (502, "bad_gateway")
        assert answer.headers["Retry-After"]


def test_an_instance_that_never_answers_ends_as_an_error_that_can_be_read(tmp_path: Path) -> None:
    async def test() -> None:
        impatient = {"proxy_read_timeout 650s;": "proxy_read_timeout 1s;"}
        async with running_instance(answer=None) as instance:
            with running_proxy(tmp_path, [instance.port], **impatient) as proxy:
                answer = await get(proxy, "/v1/models")
                assert error_of(answer) == (504, "gateway_timeout")
                assert answer.headers["Retry-After"]

    run(test)


def test_a_flood_from_one_address_is_told_to_slow_down(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_upstream() as upstream:
            with running_proxy(tmp_path, [upstream.port]) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    for _ in range(100):
                        answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
                        refused = [a for a in answers if a.status_code != 200]
                        if refused:
                            break
                    assert error_of(refused[0]) == (429, "too_many_requests")
                    assert refused[0].headers["Retry-After"] == "1"
                    assert (await client.get("/health")).status_code == 200

    run(test)


def test_a_body_over_the_limit_is_refused_in_our_shape(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_upstream() as upstream:
            with running_proxy(tmp_path, [upstream.port]) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    answer = await client.post("/generate", content=b"x" * 5_000_000)
                    assert error_of(answer) == (413, "body_too_large")

    run(test)


@pytest.mark.parametrize("path", ["/admin/status", "/admin", "/metrics", "/v1/load_lora_adapter"])
def test_what_is_for_operators_is_closed_to_other_networks(tmp_path: Path, path: str) -> None:
    async def test() -> None:
        async with running_upstream() as upstream:
            ports = [upstream.port]
            (tmp_path / "inside").mkdir()
            with running_proxy(tmp_path / "inside", ports) as proxy:
                assert (await get(proxy, path)).status_code == 200
            (tmp_path / "outside").mkdir()
            closed = {"allow 127.0.0.0/8;": ""}  # so that this machine is another network
            with running_proxy(tmp_path / "outside", ports, **closed) as proxy:
                assert error_of(await get(proxy, path)) == (403, "forbidden")
                assert (await get(proxy, "/v1/models")).status_code == 200

    run(test)


def test_the_pages_come_from_here_as_the_server_would_send_them(tmp_path: Path) -> None:
    with running_proxy(tmp_path, [free_port()]) as proxy, proxy.client() as client:
        browser = {"Accept": "text/html,*/*"}
        names = {"/": "index.html", "/status": "status.html"}
        addresses = names | {f"/playground/{name}": name for name in read_files()}
        for address, name in addresses.items():
            answer = client.get(address, headers=browser)
            assert (answer.status_code, answer.content) == (200, read_files()[name].content)
            kinds = {answer.headers["content-type"].replace("application/j", "text/j")}
            charset = "" if name.endswith(".svg") else "; charset=utf-8"
            assert kinds == {read_files()[name].media_type + charset}
            for header, value in HEADERS.items():
                assert answer.headers.get_list(header) == [value], (name, header)
            assert answer.headers["strict-transport-security"]
            known = {"If-None-Match": answer.headers["etag"]}
            assert client.get(address, headers=browser | known).status_code == 304
        assert error_of(client.get("/")) == (502, "bad_gateway"), (
            "no browser: it is for an instance"
        )
        assert error_of(client.post("/", headers=browser)) == (502, "bad_gateway")


def test_plain_http_is_sent_to_tls(tmp_path: Path) -> None:
    with running_proxy(tmp_path, [free_port()]) as proxy:
        redirect = httpx.get(f"http://127.0.0.1:{proxy.plain_port}/v1/models?x=1")
        assert redirect.status_code == 308
        assert redirect.headers["location"] == "https://127.0.0.1/v1/models?x=1"


def test_a_stream_passes_event_by_event(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_upstream(events=3) as upstream:
            with running_proxy(tmp_path, [upstream.port]) as proxy:
                async with (
                    httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client,
                    client.stream("GET", "/stream") as answer,
                ):
                    seen = []
                    async for chunk in answer.aiter_raw():
                        # The next event is made only now: nothing on the way may wait for it.
                        seen.append(chunk.decode())
                        upstream.permits.release()
                    assert seen == ["data: 0\n\n", "data: 1\n\n", "data: 2\n\n"]

    run(test)


def test_streams_go_to_the_instance_with_the_fewest(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_upstream(1) as first, running_upstream(1) as second:
            # One nginx worker: each counts its own connections.
            one = {"worker_processes auto;": "worker_processes 1;"}
            with running_proxy(tmp_path, [first.port, second.port], **one) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    tasks = []
                    for count in range(1, 11):
                        tasks.append(asyncio.create_task(client.get("/stream")))
                        await until_open(first, second, count)
                    assert (first.open, second.open) == (5, 5)
                    for upstream in (first, second):
                        for _ in range(5):
                            upstream.permits.release()
                    assert {(await task).status_code for task in tasks} == {200}

    run(test)


async def until_open(first: Upstream, second: Upstream, count: int) -> None:
    while first.open + second.open < count:
        await asyncio.sleep(0.005)


def test_the_real_server_behind_the_real_proxy(demo: Server, tmp_path: Path) -> None:
    async def test() -> None:
        with running_proxy(tmp_path, [demo.port]) as proxy:
            client = openai.AsyncOpenAI(
                base_url=proxy.url + "/v1",
                api_key="none",
                http_client=httpx.AsyncClient(verify=proxy.trust),
            )
            stream = await client.chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "Which port does the server use?"}],
                temperature=0,
                stream=True,
            )
            pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
            assert "8000" in "".join(pieces)
            assert len(pieces) > 5
            url = proxy.url.replace("https", "wss") + "/ws"
            async with connect(url, ssl=proxy.trust) as socket:
                await socket.send(json.dumps({"id": "a", "prompt": "Once upon a time"}))
                assert json.loads(await socket.recv())["type"] == "token"
                await socket.send(json.dumps({"type": "cancel", "id": "a"}))
                while (frame := json.loads(await socket.recv()))["type"] == "token":
                    pass
                assert frame["finish_reason"] in ("cancelled", "length", "stop")
            # The server listens on loopback, but this came from elsewhere, through a proxy.
            assert (await get(proxy, "/admin/status")).status_code == 403

    run(test, seconds=100)
