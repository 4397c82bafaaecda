"""A front over two backs: every dialect through it; then what becomes of requests when a back is
drained, stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import websockets
from bounded import run
from box import pids, wait_until
from programs import llmserve
from server import DEMO, Server, running_server

QUESTION = "How do I warm a model?"
ANSWER = "List warm-up prompts in model.toml."
MANIFEST = """
upstream = {urls}
[remote]
model = "demo"
first_token_seconds = 3.0
retries = 1.0
connect_seconds = 1.0
health_seconds = 0.5
"""


@dataclass
class Gateway:
    front: Server
    backs: tuple[Server, Server]

    @property
    def url(self) -> str:
        return self.front.url

    @property
    def states(self) -> list[str]:
        status = httpx.get(self.url + "/admin/status", timeout=20).json()
        [model] = status["workers"][0]["models"]
        return [upstream["state"] for upstream in model.get("upstreams", ())]

    def wait_for(self, *states: str) -> None:
        wait_until(lambda: self.states == list(states), f"{states}, but {self.states}")


@pytest.fixture(scope="module")
def own_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The second one, which tests stop and kill."""
    folder = tmp_path_factory.mktemp("back")
    with running_server(folder, DEMO, max_waiting=512, log_level="DEBUG") as server:
        yield server


@pytest.fixture(scope="module")
def running_gateway(
    tmp_path_factory: pytest.TempPathFactory, running_demo: Server, own_back: Server
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "far").mkdir()
    urls = json.dumps([running_demo.url + "/v1", own_back.url])
    (folder / "far" / "model.toml").write_text(MANIFEST.format(urls=urls))
    settings = {"max_waiting": 512, "api_keys": "k"}
    with running_server(folder, "./far", is_fork=False, **settings) as front:
        yield Gateway(front, (running_demo, own_back))
        assert "Traceback" not in front.log


@pytest.fixture
def gateway(running_gateway: Gateway, demo: Server) -> Iterator[Gateway]:
    yield running_gateway
    running_gateway.front.wait_for_load(0, 0)


def client_of(gateway: Gateway) -> httpx.Client:
    return httpx.Client(base_url=gateway.url, headers={"Authorization": "Bearer k"}, timeout=30)


def asked(prompt: str = QUESTION, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], "temperature": 0} | fields


def test_no_torch_is_loaded_where_all_models_are_elsewhere(gateway: Gateway) -> None:
    status = httpx.get(gateway.url + "/admin/status", timeout=20).json()
    maps = Path(f"/proc/{status['workers'][0]['pid']}/maps").read_text()
    assert "libtorch" not in maps
    assert "0 of" not in maps


def test_openais_client_chats_with_tools_and_log_probabilities(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="k", max_retries=0)
    messages: Any = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(
        model="far", messages=messages, temperature=0, logprobs=True, top_logprobs=2
    )
    text = whole.choices[0].message.content or ""
    assert text.startswith(ANSWER)
    told = whole.choices[0].logprobs
    assert told is not None
    assert "".join(token.token for token in told.content or ()) == text
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 19
    stream = client.chat.completions.create(
        model="far",
        messages=messages,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == text
    assert chunks[-1].usage == whole.usage or chunks[-1].usage is not None
    tool: Any = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    called = client.chat.completions.create(
        model="far",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        temperature=0,
        tools=[tool],
    )
    assert called.choices[0].finish_reason == "tool_calls"
    [call] = called.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    response = client.responses.create(model="far", input=QUESTION, temperature=0)
    assert response.output_text == text
    text_only = client.completions.create(model="far", prompt="Once upon", max_tokens=3, logprobs=1)
    assert text_only.choices[0].text
    assert text_only.choices[0].logprobs is not None


def test_a_form_holds_and_a_bad_field_is_the_backs_word_with_its_status(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key="k", max_retries=0)
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"],
              "additionalProperties": False}  # fmt: skip
    form: Any = {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}
    messages: Any = [{"role": "user", "content": "Fill in age as JSON: Anna is 7 years old."}]
    answer = client.chat.completions.create(
        model="far", messages=messages, temperature=0, response_format=form
    )
    assert json.loads(answer.choices[0].message.content or "").keys() == {"age"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="far",
            messages=messages,
            stream=True,
            extra_body={"stop_token_ids": [2_000_000_000]},
        )
    assert refused.value.param == "stop_token_ids"
    for body in (asked(return_token_ids=True), asked(prompt_logprobs=1)):
        with client_of(gateway) as plain:
            answer = plain.post("/v1/chat/completions", json=body)  # type: ignore[assignment]
        assert answer.status_code == 400  # type: ignore[attr-defined]
        assert answer.json()["error"]["param"] in body  # type: ignore[attr-defined]


def test_anthropics_client_streams(gateway: Gateway) -> None:
    client = anthropic.Anthropic(base_url=gateway.url, api_key="k", max_retries=0)
    with client.messages.stream(
        model="far",
        max_tokens=100,
        messages=[{"role": "user", "content": QUESTION}],
        extra_body={"temperature": 0},
    ) as stream:
        assert stream.get_final_text().startswith(ANSWER)
        usage = stream.get_final_message().usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == 19
    with pytest.raises(anthropic.BadRequestError, match="counted on the server"):
        client.messages.count_tokens(model="far", messages=[{"role": "user", "content": QUESTION}])


def test_the_other_dialects(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        chat = client.post("/api/chat", json=asked(options={"temperature": 0}, stream=False)
                           | {"temperature": None}).json()  # fmt: skip
        assert chat["message"]["content"].startswith(ANSWER)
        shown = client.post("/api/show", json={"model": "far"}).json()
        assert shown["template"] == ""
        tgi = {"inputs": "Once upon", "parameters": {"max_new_tokens": 3}}
        lines = client.post("/generate_stream", json=tgi).text.splitlines()
        events = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
        assert "".join(event["token"]["text"] for event in events) == " a time there"
        assert len(events) == 3
        assert events[-1]["generated_text"] == " a time there"
        native = {"prompt": "Once upon", "max_tokens": 3, "temperature": 0}
        assert client.post("/generate", json=native).json()["result"] == " a time there"
        streamed = client.get("/stream?prompt=Once+upon&max_tokens=3&temperature=0").text
        assert streamed.count("event: done") == 1
        refused = client.post("/tokenize", json={"prompt": "x"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
        [model] = client.get("/v1/models").json()["data"]
        assert model["upstreams"] == {"total": 2, "up": 2}
        assert "127.0.0.1" not in json.dumps(model)


def test_a_socket_takes_several_prompts_and_a_cancel(gateway: Gateway) -> None:
    async def test() -> None:
        url = gateway.url.replace("http", "ws") + "/ws"
        headers = {"Authorization": "Bearer k"}
        async with websockets.connect(url, additional_headers=headers) as socket:
            for name in ("a", "b"):
                await socket.send(json.dumps({"id": name, "prompt": "Once upon a time",
                                              "max_tokens": 300, "ignore_eos": True}))  # fmt: skip
            await socket.send(json.dumps({"type": "cancel", "id": "a"}))
            last: dict[str, Any] = {}
            while last.keys() != {"a", "b"}:
                frame = json.loads(await socket.recv())
                if frame["type"] in ("done", "error"):
                    last[frame["id"]] = frame
            assert last["a"]["finish_reason"] == "cancelled"
            assert last["b"]["finish_reason"] == "length"

    run(test)
    for back in gateway.backs:
        back.wait_for_load(0, 0)


def test_a_client_that_hangs_up_frees_the_backs_slot(gateway: Gateway) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with client_of(gateway) as client, client.stream("POST", "/generate", json=body) as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith("data:"):
            pass
        assert sum(back.load()[0] for back in gateway.backs) == 1
    for back in gateway.backs:
        back.wait_for_load(0, 0)


def test_a_trace_and_an_id_go_on(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        client.post("/v1/chat/completions", json=asked(), headers={"X-Request-ID": "goes-on-1"})
    wait_until(lambda: any("goes-on-1" in back.log for back in gateway.backs), "a back has the id")


def conversations(url: str, mark: str) -> None:
    """Six of them at a time, whose turns begin with all that came before."""

    def turns(number: int) -> None:
        text = f"{mark} {number} the little fox went home "
        for turn in range(5):
            body = {"prompt": text, "max_tokens": 1, "temperature": 0}
            headers = {"Authorization": "Bearer k"}
            httpx.post(url + "/generate", json=body, headers=headers, timeout=30)
            text += f"and then {turn} it saw a river and a tall tree near the old house " * 2

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(turns, range(6)))


def hits(*servers: Server) -> float:
    return sum(server.metric("llmserve_prefix_cache_hits_total") for server in servers)


def test_conversations_find_their_prefixes_on_two_backs_as_on_one(gateway: Gateway) -> None:
    before = hits(*gateway.backs)
    conversations(gateway.url, "alpha")
    on_two = hits(*gateway.backs) - before
    before = hits(gateway.backs[1])
    conversations(gateway.backs[1].url, "gamma")
    on_one = hits(gateway.backs[1]) - before
    assert on_one > 500
    assert on_two >= 0.9 * on_one


def test_an_operator_drains_an_upstream_and_undrains_it(gateway: Gateway) -> None:
    second = gateway.backs[1]
    told = llmserve("upstreams", "drain", second.url + "/v1", "--url", gateway.url)
    assert told.returncode == 0, told.stderr
    assert gateway.states == ["up", "draining"]
    logged = len(second.log)
    with client_of(gateway) as client:
        for number in range(4):
            assert client.post("/generate", json={"prompt": f"{number}"}).status_code == 200
    assert "POST /v1/completions" not in second.log[logged:]
    listed = llmserve("upstreams", "list", "--url", gateway.url).stdout
    assert "an operator drains it" in listed
    assert llmserve("upstreams", "undrain", second.url, "--url", gateway.url).returncode == 0
    gateway.wait_for("up", "up")
    wrong = llmserve("upstreams", "drain", "http://nobody", "--url", gateway.url)
    assert wrong.returncode == 1
    assert "no upstream" in wrong.stderr


async def crowd(gateway: Gateway, size: int, act: Any) -> list[tuple[str, bool, str]]:
    """Of streams that run while `act` happens: id, whether text came, how it ended."""

    async def one(client: httpx.AsyncClient, number: int) -> tuple[str, bool, str]:
        own_id, has_text, end = f"crowd-{act.__name__}-{number}", False, "nothing"
        body = {"prompt": f"{number} once upon a time", "max_tokens": 200, "ignore_eos": True}
        request = client.stream(
            "POST", "/generate", json=body | {"stream": True}, headers={"X-Request-ID": own_id}
        )
        async with request as answer:
            ends = 0
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                if line.startswith("data:") and event in ("done", "error"):
                    ends += 1
                    end = event
                elif line.startswith("data:"):
                    has_text = True
            if answer.status_code != 200:
                ends, end = ends + 1, "error"
            assert ends == 1, (own_id, ends)
        return own_id, has_text, end

    headers = {"Authorization": "Bearer k"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as client:
        running = [asyncio.create_task(one(client, number)) for number in range(size)]
        while not all(back.load()[0] for back in gateway.backs):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(act)
        return await asyncio.gather(*running)


def test_a_back_that_hangs_is_left_alone_until_it_answers_again(gateway: Gateway) -> None:
    [worker] = pids(gateway.backs[1]).values()
    os.kill(worker, signal.SIGSTOP)
    try:
        wait_until(lambda: gateway.states[1] in ("open", "down"), "the back is out")
        with client_of(gateway) as client:
            for number in range(4):
                assert client.post("/generate", json={"prompt": f"{number}"}).status_code == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    gateway.wait_for("up", "up")


def test_of_a_back_that_is_killed_what_has_no_byte_moves_and_nothing_is_sent_twice(
    gateway: Gateway,
) -> None:
    first, second = gateway.backs

    def killed() -> None:
        for pid in (second.process.pid, *pids(second).values()):
            os.kill(pid, signal.SIGKILL)
        second.process.wait(20)

    async def test() -> None:
        outcomes = await crowd(gateway, 24, killed)
        ends = [end for _, _, end in outcomes]
        assert set(ends) <= {"done", "error"}
        assert ends.count("done") >= 12
        failed = [(own_id, has_text) for own_id, has_text, end in outcomes if end == "error"]
        assert failed, "the back had begun some"
        assert all(has_text for _, has_text in failed), "what had no byte has moved"
        log = first.log
        assert not [own_id for own_id, _ in failed if f"{own_id} " in log]

    run(test)
    gateway.wait_for("up", "down")
    with client_of(gateway) as client:
        assert client.post("/generate", json={"prompt": "and on"}).status_code == 200
    assert gateway.front.metric("llmserve_upstream_up") == 1
