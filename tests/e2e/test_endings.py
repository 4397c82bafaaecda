"""How answers end and which tokens they show, from HTTP to a real engine and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from server import Server
from transformers import AutoTokenizer

MAX_TOKENS = 3


@pytest.fixture(scope="module")
def token_ids(tiny_model: Path) -> tuple[int, int]:
    """Of a letter, and of a special token."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    [letter] = tokenizer.encode("x", add_special_tokens=False)
    return letter, tokenizer.convert_tokens_to_ids("<|im_start|>")


def completion(server: Server, forced: int, **fields: Any) -> dict[str, Any]:
    """The choice of an answer that has only this token; streamed and not, it is the same."""
    body = {
        "prompt": "hi",
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "logit_bias": {str(forced): 100},
        "logprobs": 0,
    } | fields
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    text = httpx.post(server.url + "/v1/completions", json=body | {"stream": True}, timeout=60).text
    frames = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    chunks = [frame["choices"][0] for frame in frames]
    assert "".join(chunk["text"] for chunk in chunks) == choice["text"]
    assert [chunks[-1][key] for key in ("finish_reason", "stop_reason")] == [
        choice["finish_reason"],
        choice["stop_reason"],
    ]
    told = [i for chunk in chunks if chunk["logprobs"] for i in chunk["logprobs"]["tokens"]]
    assert told == choice["logprobs"]["tokens"]
    return choice


def test_a_stop_token_ends_an_answer(server: Server, token_ids: tuple[int, int]) -> None:
    letter, _ = token_ids
    choice = completion(server, letter, stop_token_ids=[letter], ignore_eos=True)
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("", "stop", letter)
    assert choice["logprobs"]["tokens"] == []
    kept = completion(server, letter, stop_token_ids=[letter], include_stop_str_in_output=True)
    assert (kept["text"], kept["finish_reason"], kept["stop_reason"]) == ("x", "stop", letter)
    assert kept["logprobs"]["tokens"] == ["x"]


def test_a_stop_string_may_stay(server: Server, token_ids: tuple[int, int]) -> None:
    letter, _ = token_ids
    choice = completion(server, letter, stop=["xx"], include_stop_str_in_output=True)
    assert (choice["text"], choice["stop_reason"]) == ("xx", "xx")


def test_special_tokens_are_shown_on_demand(server: Server, token_ids: tuple[int, int]) -> None:
    _, special = token_ids
    assert completion(server, special)["text"] == ""
    shown = completion(server, special, skip_special_tokens=False)
    assert shown["text"] == "<|im_start|>" * MAX_TOKENS
    room = len("<|im_start|>")
    assert shown["logprobs"]["text_offset"] == [0, room, 2 * room]
