"""What a model's generation_config.json asks for, on a running server and by both engines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from server import Server, running_server
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = "Once upon a time"
ENGINES = ("batching", "threaded")
PENALTY = 1.3


def greedy(folder: Path, suppressed: list[int], num_tokens: int) -> tuple[list[int], str]:
    """What transformers says under the same config."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=PENALTY,
        suppress_tokens=suppressed or None,
        max_new_tokens=num_tokens,
        eos_token_id=None,
    )[0, ids.shape[1] :].tolist()
    return answer, tokenizer.decode(answer)


@pytest.fixture(scope="module")
def asked(tiny_model: Path) -> dict[str, Any]:
    """Suppresses what would come first, and stops at a text from the middle of what then comes."""
    suppressed = greedy(tiny_model, [], 1)[0]
    _, text = greedy(tiny_model, suppressed, 40)
    return {
        "do_sample": False,
        "repetition_penalty": PENALTY,
        "suppress_tokens": suppressed,
        "max_new_tokens": 12,
        "stop_strings": re.findall(r"[a-z]{4}", text[len(text) // 2 :])[:1],
        "num_beams": 4,
        "eos_token_id": [2, 0],
    }


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, asked: dict[str, Any]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    for engine in ENGINES:
        copy = folder / "models" / engine
        shutil.copytree(tiny_model, copy)
        (copy / "generation_config.json").write_text(json.dumps(asked))
        (copy / "model.toml").write_text(f"engine = '{engine}'\ndevice = 'cpu'\n")
    with running_server(folder, *ENGINES) as running:
        running.wait_for_log("is ready after", times=len(ENGINES))
        yield running


def ask(server: Server, engine: str, route: str = "/v1/completions", **fields: Any) -> Any:
    body = {"model": engine, "prompt": PROMPT} | fields
    answer = httpx.post(server.url + route, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_silent_request_gets_what_the_model_recommends(
    server: Server, tiny_model: Path, asked: dict[str, Any], engine: str
) -> None:
    expected, _ = greedy(tiny_model, asked["suppress_tokens"], 12)
    decode = AutoTokenizer.from_pretrained(tiny_model).decode
    answers = [
        ask(server, engine)["choices"][0]["text"],
        ask(server, engine, "/generate")["result"],
    ]
    # Of a character that was cut in half one may be told the half, or nothing.
    assert [answer.rstrip("\ufffd") for answer in answers] == [
        decode(expected).rstrip("\ufffd")
    ] * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_request_that_speaks_decides_and_the_models_stop_strings_hold(
    server: Server, tiny_model: Path, asked: dict[str, Any], engine: str
) -> None:
    _, text = greedy(tiny_model, asked["suppress_tokens"], 80)
    (stop,) = asked["stop_strings"]
    choice = ask(server, engine, max_tokens=80, stop=["never said"])["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text[: text.index(stop)], "stop")
    assert choice["stop_reason"] == stop
    choice = ask(server, engine, max_tokens=80, ignore_eos=True)["choices"][0]
    assert choice["text"].startswith(text[: text.index(stop)] + stop)
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_suppressed_token_is_never_drawn(
    server: Server, tiny_model: Path, asked: dict[str, Any], engine: str
) -> None:
    bias = {str(asked["suppress_tokens"][0]): 100}
    fields = {"temperature": 1.0, "seed": 3, "max_tokens": 12, "ignore_eos": True}
    answer = ask(server, engine, logit_bias=bias, **fields)["choices"][0]
    wrong = AutoTokenizer.from_pretrained(tiny_model).decode(asked["suppress_tokens"])
    assert wrong not in answer["text"]


def test_what_is_not_followed_is_told(server: Server) -> None:
    for model in httpx.get(server.url + "/v1/models").json()["data"]:
        assert model["ignored_generation_config"] == ["num_beams = 4"]
    assert server.log.count("ignored in its generation_config.json: num_beams = 4") == len(ENGINES)
