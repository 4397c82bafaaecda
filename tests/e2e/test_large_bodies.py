"""Bodies that are read in a thread: the same answers as of those that are not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from bounded import run
from server import Server
from websockets.asyncio.client import connect

from llmserve.api.edge.route import LARGE_BYTES
from llmserve.api.ignored import HEADER

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
GENERATE = "/generate"
MESSAGE = {"role": "user", "content": "hi"}
BLANK = " " * LARGE_BYTES
TWINS: list[tuple[str, Any]] = [
    (GENERATE, {"prompt": "hi"}),
    (GENERATE, {"prompt": ""}),
    (GENERATE, {"prompt": "hi", "max_tokens": "3"}),
    (GENERATE, {"prompt": "hi", "tools": [1]}),
    (GENERATE, {"prompt": "hi", "own": 1, "nothing": None}),
    (GENERATE, {"prompt": "hi", "model": "nobody"}),
    (GENERATE, [1]),
    (GENERATE, "text"),
    (GENERATE, None),
    (CHAT, {"messages": [MESSAGE]}),
    (CHAT, {"messages": [MESSAGE | {"own": 1}] * 20, "metadata": {"a": "b"}, "n": 2}),
    (CHAT, {"messages": [MESSAGE | {f"own{i}": 1} for i in range(20)]}),
    (CHAT, {"messages": [{"role": "wizard"}]}),
    (CHAT, {"messages": [MESSAGE], "stream_options": {"include_usage": True}}),
    (CHAT, {"messages": [MESSAGE], "max_tokens": 1, "max_completion_tokens": 2}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (COMPLETIONS, {"prompt": [5, 6]}),
    (COMPLETIONS, {"prompt": [[5], [6]]}),
    (COMPLETIONS, {"prompt": [5, -1]}),
    (COMPLETIONS, {"prompt": "hi", "logprobs": 1}),
]


def post(server: Server, path: str, body: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return httpx.post(server.url + path, content=body, headers=headers, timeout=30)


@pytest.mark.parametrize(("path", "body"), TWINS)
def test_a_large_body_has_the_answer_of_a_small_one(server: Server, path: str, body: Any) -> None:
    if isinstance(body, dict):
        body = {"max_tokens": 2, "temperature": 0, **body}
    small, large = (post(server, path, json.dumps(body) + blank) for blank in ("", BLANK))
    assert large.status_code == small.status_code, large.text
    assert large.headers.get(HEADER) == small.headers.get(HEADER)
    told, expected = large.json(), small.json()
    for answer in (told, expected):
        for changing in ("id", "created", "usage"):
            answer.pop(changing, None)
    assert told == expected


@pytest.mark.parametrize(
    "body", ["{", '{"prompt":NaN}', '{"prompt":' + "[" * 100 + "]" * 100 + "}"]
)
def test_what_is_no_json_is_told_so_however_large(server: Server, body: str) -> None:
    small, large = (post(server, GENERATE, blank + body) for blank in ("", BLANK))
    assert (large.status_code, small.status_code) == (400, 400)
    words = [answer.json()["error"]["message"].partition(":")[0] for answer in (small, large)]
    assert words[0] == words[1]


def test_thousands_of_messages_are_one_conversation(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": ""}] * 6000 + [MESSAGE], "max_tokens": 1}
    error = post(server, CHAT, json.dumps(body)).json()["error"]
    assert error["code"] == "context_length_exceeded"


def test_hundreds_of_thousands_of_names_are_counted(server: Server) -> None:
    names = {f"n{number}": 1 for number in range(200_000)}
    answer = post(server, GENERATE, json.dumps({"prompt": "hi", "max_tokens": 1} | names))
    assert answer.status_code == 200
    assert answer.headers[HEADER] == ", ".join([*list(names)[:16], "+199984"])


def test_a_large_frame_has_the_answer_of_a_small_one(server: Server) -> None:
    frames = [
        {"id": "a", "prompt": "hi", "max_tokens": 2, "own": 1},
        {"id": "b", "prompt": ""},
        {"type": "cancel", "id": "c", "own": 1},
        {"id": "d", "prompt": "hi", "tools": [1]},
        {"id": "e", "prompt": "hi", "max_tokens": 2},
    ]

    async def test() -> None:
        last: dict[str, list[tuple[Any, ...]]] = {"": [], BLANK: []}
        async with connect(server.url.replace("http", "ws") + "/ws", max_size=None) as socket:
            for blank, told in last.items():
                for frame in frames:
                    await socket.send(json.dumps(frame) + blank)
                while len(told) < 4:
                    got = json.loads(await socket.recv())
                    if got["type"] in ("done", "error"):
                        param = got.get("error", {}).get("param")
                        told.append((got["id"], got["type"], param, got.get("ignored_fields")))
        assert sorted(last[""]) == sorted(last[BLANK])

    run(test)
