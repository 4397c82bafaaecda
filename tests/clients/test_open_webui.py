"""open-webui, by chat completions and by Ollama's API, lists models, chats, and keeps documents by
their embeddings."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

import httpx
import pytest
from clients_page import blocks
from fake_encoder import FakeEncoder
from scripted_server import scripted_server
from server import free_port

from llmserve.domain import Delta, Message

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SECONDS = 240.0
ASKED = [{"role": "user", "content": "Who are you?"}]
ALONE = {"OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1"}
"""It looks for nothing on the internet."""


def script(messages: Sequence[Message]) -> Delta:
    return Delta("I am a model.", (7,))


@pytest.fixture(scope="module")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Somebody who has signed in."""
    program = shutil.which("open-webui")
    if program is None:
        pytest.skip("open-webui is missing; `pip install open-webui` to run this test")
    folder, port = tmp_path_factory.mktemp("webui"), free_port()
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    encoder = FakeEncoder(capacity=4)
    encoder.answers_at_once = True
    with scripted_server(script, encoder) as server, (folder / "log").open("wb") as log:
        exports, *_ = blocks("sh", server.url, "fake")
        known = {"HOME": str(folder), "DATA_DIR": str(folder), "NO_PROXY": "127.0.0.1", **ALONE}
        known |= {"WEBUI_AUTH": "False", "WEBUI_SECRET_KEY": "of a test"}
        known |= dict(re.findall(r"export (\w+)=(.*)", exports))
        with (
            subprocess.Popen(
                command, cwd=folder, env=os.environ | known, stdout=log, stderr=log
            ) as run,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client,
        ):
            try:
                for _ in range(int(SECONDS)):
                    assert run.poll() is None, (folder / "log").read_text()
                    with contextlib.suppress(httpx.TransportError):
                        if client.get("/health").is_success:
                            break
                    time.sleep(1)
                nobody = {"email": "", "password": ""}
                token = client.post("/api/v1/auths/signin", json=nobody).json()["token"]
                client.headers["Authorization"] = f"Bearer {token}"
                names = [each["id"] for each in client.get("/api/models").json()["data"]]
                assert {"fake", "fake:latest"} <= set(names)
                yield client
            finally:
                run.terminate()


@pytest.mark.parametrize("model", ["fake", "fake:latest"])
def test_a_chat_is_answered(webui: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": ASKED}
    whole = webui.post("/api/chat/completions", json=body | {"stream": False}).json()
    assert whole["choices"][0]["message"]["content"] == "I am a model."
    with webui.stream("POST", "/api/chat/completions", json=body | {"stream": True}) as answer:
        told = "".join(answer.iter_lines())
    assert "I am a model." in told
    assert "[DONE]" in told


def test_documents_are_found_by_their_embeddings(webui: httpx.Client) -> None:
    for name, content in (("short", "A fox."), ("long", "How to warm a model, and why.")):
        kept = webui.post(
            "/api/v1/retrieval/process/text", json={"name": name, "content": content}
        ).json()
        assert kept["status"] is True, kept
        asked = {"collection_name": kept["collection_name"], "query": "warm", "k": 1}
        found = webui.post("/api/v1/retrieval/query/doc", json=asked).json()
        assert found["documents"] == [[content]]
