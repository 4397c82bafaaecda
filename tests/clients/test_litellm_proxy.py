"""litellm's proxy before this server: asked in three dialects, it asks in three."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from clients_page import blocks
from scripted_server import ScriptedServer, scripted_server
from server import free_port, running_server

from llmserve.domain import Delta, Message, ToolCallDelta

SECONDS = 60.0
KEY = "sk-4f1c9b7d2ae8430fb6c5d1e7"
MODELS = ["fake", "fake-by-messages", "fake-by-ollama"]
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}


def script(messages: Sequence[Message]) -> Delta:
    if messages[-1].role == "tool":
        return Delta(f"It says: {messages[-1].content}", (7,))
    if "weather" in messages[-1].content:
        call = ToolCallDelta(0, '{"city": "Paris"}', "call_1", "get_weather")
        return Delta("", (7,), calls=(call,))
    return Delta("I am a model.", (7,))


@pytest.fixture(scope="module")
def served() -> Iterator[ScriptedServer]:
    with scripted_server(script) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(
    served: ScriptedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    program = shutil.which("litellm")
    if program is None:
        pytest.skip("litellm is missing; `pip install 'litellm[proxy]'` to run this test")
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    (folder / "config.yaml").write_text(blocks("yaml", served.url, "fake")[0])
    command = [program, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    known = {
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": KEY,
    }
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, env=os.environ | known, stdout=log, stderr=log
        ) as run,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=SECONDS,
            headers={"Authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        try:
            for _ in range(int(SECONDS * 10)):
                assert run.poll() is None, (folder / "log").read_text()
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health/liveliness").is_success:
                        break
                time.sleep(0.1)
            yield client
        finally:
            run.terminate()


def post(proxy: httpx.Client, path: str, **body: object) -> dict[str, object]:
    answer = proxy.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", MODELS)
def test_text_by_every_dialect(proxy: httpx.Client, model: str) -> None:
    asked = [{"role": "user", "content": "Who are you?"}]
    chat = post(proxy, "/v1/chat/completions", model=model, messages=asked)
    assert chat["choices"][0]["message"]["content"] == "I am a model."
    response = post(proxy, "/v1/responses", model=model, input="Who are you?")
    [message] = [item for item in response["output"] if item["type"] == "message"]
    assert message["content"][0]["text"] == "I am a model."
    message = post(proxy, "/v1/messages", model=model, max_tokens=20, messages=asked)
    assert message["content"][0]["text"] == "I am a model."


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_is_told(proxy: httpx.Client, model: str) -> None:
    tools = [{"type": "function", "function": FUNCTION}]
    first = post(proxy, "/v1/chat/completions", model=model, messages=ASKED, tools=tools)
    said = first["choices"][0]["message"]
    [call] = said["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    result = {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees"}
    told = post(
        proxy, "/v1/chat/completions", model=model, messages=[*ASKED, said, result], tools=tools
    )
    assert told["choices"][0]["message"]["content"] == "It says: 18 degrees"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_arrives(proxy: httpx.Client, model: str) -> None:
    asked = [{"role": "user", "content": "Who are you?"}]
    body = {"model": model, "messages": asked, "stream": True}
    with proxy.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert "I am a model." in "".join(lines)


def test_it_is_an_upstream(proxy: httpx.Client, tmp_path: Path) -> None:
    """A front of ours asks the proxy, which asks the server behind it."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "model.toml").write_text(
        f'upstream = "{proxy.base_url}"\n[remote]\nmodel = "fake"\nkey_file = "key"\n'
        'health_path = "/health/liveliness"\n'
    )
    (tmp_path / "far" / "key").write_text(KEY)
    asked = [{"role": "user", "content": "Who are you?"}]
    with running_server(tmp_path, "./far") as front:
        body = {"model": "far", "messages": asked}
        answer = httpx.post(f"{front.url}/v1/chat/completions", json=body, timeout=SECONDS).json()
        assert answer["choices"][0]["message"]["content"] == "I am a model."
        message = httpx.post(
            f"{front.url}/v1/messages", json=body | {"max_tokens": 20}, timeout=SECONDS
        ).json()
        assert message["content"][0]["text"] == "I am a model."
        tools = [{"type": "function", "function": FUNCTION}]
        body = {"model": "far", "messages": ASKED, "tools": tools}
        told = httpx.post(f"{front.url}/v1/chat/completions", json=body, timeout=SECONDS).json()
        [call] = told["choices"][0]["message"]["tool_calls"]
        assert call["function"]["arguments"] == '{"city": "Paris"}'
