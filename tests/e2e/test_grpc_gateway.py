"""A front that answers over HTTP what another server answers over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server import Server, running_server

MANIFEST = """
upstream = "grpc://{address}"
[remote]
model = "tiny"
key_file = "key"
"""


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, guarded: Server) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "far").mkdir()
    (folder / "far" / "model.toml").write_text(MANIFEST.format(address=guarded.grpc_address))
    (folder / "far" / "key").write_text("k1\n")
    with running_server(folder, "./far", is_fork=False) as running:
        yield running
        assert "Traceback" not in running.log


def asked(**fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "hello"}
    return {"messages": [message], "temperature": 0, "max_tokens": 12} | fields


def chat(server: Server, body: dict[str, Any], key: str = "none") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    url = server.url + "/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60)


def test_a_client_that_hangs_up_frees_both_slots(front: Server, guarded: Server) -> None:
    body = asked(stream=True, max_tokens=2000, ignore_eos=True)
    url = front.url + "/v1/chat/completions"
    loads = []
    while (1, 0) not in loads:  # on a busy machine the back may be done before we look
        assert len(loads) < 10
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            next(line for line in answer.iter_lines() if '"content":"' in line)
            loads.append(guarded.load())
        front.wait_for_load(0, 0)
        guarded.wait_for_load(0, 0)


def test_a_bad_field_is_the_backs_word_with_its_name(front: Server, guarded: Server) -> None:
    for body, param in (
        (asked(logit_bias={"999999": 1}), "logit_bias"),
        (asked(return_token_ids=True), "return_token_ids"),
    ):
        refused = chat(front, body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    direct = chat(guarded, asked(logit_bias={"999999": 1}), "k1").json()["error"]
    assert chat(front, asked(logit_bias={"999999": 1})).json()["error"] == direct


def test_an_answer_is_the_one_that_the_back_gives(front: Server, guarded: Server) -> None:
    for body in (
        asked(ignore_eos=True),
        asked(logprobs=True, top_logprobs=2, ignore_eos=True),
        asked(structured_outputs={"choice": ["yes", "no"]}),
        asked(stop_token_ids=[5], n=2, seed=3, temperature=1.0),
    ):
        own, far = (chat(*asking).json() for asking in ((guarded, body, "k1"), (front, body)))
        assert far["choices"] == own["choices"]
        assert far["usage"]["completion_tokens"] == own["usage"]["completion_tokens"]
        assert far["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"]


def test_no_torch_is_loaded_there(front: Server) -> None:
    status = httpx.get(front.url + "/admin/status", timeout=20).json()
    maps = Path(f"/proc/{status['workers'][0]['pid']}/maps").read_text()
    assert "libtorch" not in maps
    [upstream] = status["workers"][0]["models"][0]["upstreams"]
    assert (upstream["state"], upstream["server"]) == ("up", "llmserve")
