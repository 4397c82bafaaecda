"""Adapters as models of their own: broken ones, keys that are not for them, evictions, unloading
while streams run; then what they say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from adapter_box import ADMIN, COUNT, OWN, PROMPT, Box, running_box
from bounded import run
from box import wait_until
from engines.batching.asked import Asked, engine_of, tokenizer_of
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from websockets.sync.client import connect

from llmserve.domain import AdapterSpec
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Box]:
    with running_box(tmp_path_factory.mktemp("adapters"), tiny_model) as running:
        yield running


@pytest.fixture(scope="module")
def expected(box: Box) -> dict[str, str]:
    """What the base and each adapter say, one at a time, in this process."""
    told: dict[str, str] = {}

    async def test() -> None:
        tokenizer = tokenizer_of(box.base)
        prompt = tokenizer.encode(PROMPT)
        async with engine_of(box.base) as engine:
            folders = {name: box.base / "adapters" / name for name in OWN}
            folders["late"] = box.folder / "elsewhere" / "late"
            for name, folder in folders.items():
                await engine.load_adapter(AdapterSpec(name), folder)
                tokens = await Asked(engine, prompt, COUNT, adapter=name).tokens()
                told[f"base:{name}"] = tokenizer.decode(tokens)
            tokens = await Asked(engine, prompt, COUNT).tokens()
            told["base"] = tokenizer.decode(tokens)

    run(test)
    assert len(set(told.values())) == len(told), "the adapters change nothing"
    return told


def test_a_broken_adapter_answers_with_its_error_and_the_base_serves(box: Box) -> None:
    answer = box.ask("base:broken")
    assert answer.status_code == 503
    assert "peft_type is 'IA3'" in answer.json()["error"]["message"]
    assert box.ask("base").status_code == 200
    ready = httpx.get(box.server.url + "/health/ready", timeout=20)
    assert ready.status_code == 200
    [warning] = ready.json()["models"][0]["warnings"]
    assert warning.startswith("base:broken: ")


def test_an_adapter_that_nobody_has_is_not_found(box: Box) -> None:
    answer = box.ask("base:rad")
    assert answer.status_code == 404
    assert "did you mean 'base:red'?" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [
        ("base", "base", 200),
        ("base", "base:red", 403),
        ("base", "nick:red", 403),
        ("red", "nick:red", 200),
        ("red", "base", 403),
        ("red", "base:blue", 403),
        ("star", "base:red", 200),
        ("star", "azure", 200),
        ("star", "base", 403),
        ("alias", "base:blue", 200),
        ("alias", "base", 403),
    ],
)
def test_a_key_is_for_what_it_names(box: Box, key: str, model: str, status: int) -> None:
    assert box.ask(model, key).status_code == status
    listed = {
        name for model in box.models(key).values() for name in (model["id"], *model["aliases"])
    }
    assert (model in listed) is (status == 200)


def test_adapters_and_base_in_parallel_say_what_each_says_alone(
    box: Box, expected: dict[str, str]
) -> None:
    names = ["base", "base:red", "azure", "nick", "nick:red", "base:blue", "base", "base:red"]

    async def test() -> None:
        async with openai.AsyncOpenAI(
            base_url=box.server.url + "/v1", api_key=box.keys["all"]
        ) as client:

            async def ask(name: str) -> tuple[str, str]:
                chunks = await client.completions.create(
                    model=name,
                    prompt=PROMPT,
                    max_tokens=COUNT,
                    temperature=0,
                    stream=True,
                    extra_body={"ignore_eos": True},
                )
                parts = [(c.model, c.choices[0].text) async for c in chunks if c.choices]
                [model] = {model for model, _ in parts}
                return model, "".join(text for _, text in parts)

            told = await asyncio.gather(*(ask(name) for name in names * 2))
            for model, text in told:
                assert text == expected[model]
            assert {model for model, _ in told} == {"base", "base:red", "base:blue"}

            async def chat(name: str) -> str:
                answer = await client.chat.completions.create(
                    model=name,
                    messages=[{"role": "user", "content": PROMPT}],
                    max_tokens=COUNT,
                    temperature=0,
                )
                assert answer.model == name
                return answer.choices[0].message.content or ""

            chats = await asyncio.gather(*map(chat, ("base", "base:red", "base:blue")))
            assert len(set(chats)) == 3

    run(test)


def test_one_more_than_fit_evicts_the_least_recently_used(
    box: Box, expected: dict[str, str]
) -> None:
    for _ in range(2):
        for name in ("base:red", "base:blue", "base:green"):
            assert box.says(name) == expected[name]
    for adapters in box.adapters():
        loaded = [name for name, adapter in adapters.items() if adapter["status"] == "ready"]
        assert len(loaded) <= 2
    assert "base:green" in str(box.adapters())


def test_listings_say_what_an_adapter_is_and_of_which_base(box: Box) -> None:
    box.cli("load", "base:red")
    models = box.models()
    red, base = models["base:red"], models["base"]
    assert (red["parent"], red["root"], red["status"]) == ("base", "red", "ready")
    assert red["adapter"]["rank"] == 2
    assert red["aliases"] == ["nick:red"]
    assert (base["parent"], base["root"]) == (None, "base")
    one = httpx.get(box.server.url + "/v1/models/azure", headers=box.headers(), timeout=20).json()
    assert one["id"] == "base:blue"
    tags = httpx.get(box.server.url + "/api/tags", headers=box.headers(), timeout=20).json()
    parents = {tag["name"]: tag["details"]["parent_model"] for tag in tags["models"]}
    assert parents["base:red"] == "base"
    assert parents["base:latest"] == ""
    shown = httpx.post(
        box.server.url + "/api/show", json={"model": "base:red"}, headers=box.headers(), timeout=20
    )
    assert shown.json()["details"]["parent_model"] == "base"
    assert "base:red" in box.cli("ps")


def test_other_routes_take_an_adapters_name(box: Box) -> None:
    for path, body in {
        "/tokenize": {"model": "base:red", "prompt": PROMPT},
        "/v1/messages": {
            "model": "nick:red",
            "max_tokens": 2,
            "messages": [{"role": "user", "content": PROMPT}],
        },
        "/v1/responses": {"model": "base:red", "input": PROMPT, "max_output_tokens": 16},
        "/api/generate": {"model": "base:red", "prompt": PROMPT, "options": {"num_predict": 2}},
        "/generate": {"model": "base:red", "prompt": PROMPT, "max_tokens": 2},
    }.items():
        headers = box.headers() | {"anthropic-version": "2023-06-01"}
        answer = httpx.post(box.server.url + path, json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, (path, answer.text)


def test_grpc_and_websockets_take_an_adapters_name(box: Box, expected: dict[str, str]) -> None:
    options = pb.Options(sampling=pb.Sampling(temperature=0, max_tokens=COUNT, ignore_eos=True))
    metadata = (("authorization", box.headers()["Authorization"]),)
    with grpc.insecure_channel(box.server.grpc_address) as channel:
        stub: Any = GenerationStub(channel)
        call = stub.Generate(
            pb.GenerateRequest(model="nick:blue", text=PROMPT, options=options), metadata=metadata
        )
        told = [event.delta.text for event in call if event.WhichOneof("event") == "delta"]
        listed = stub.ListModels(pb.ListModelsRequest(), metadata=metadata).models
        health: Any = HealthStub(channel)
        for name, status in {"nick:red": "SERVING", "base:broken": "NOT_SERVING"}.items():
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status
    assert "".join(told) == expected["base:blue"]
    assert "base:blue" in {model.name for model in listed}
    ask = {"prompt": PROMPT, "max_tokens": COUNT, "temperature": 0, "ignore_eos": True}
    url = box.server.url.replace("http", "ws") + "/ws"
    with connect(url, additional_headers=box.headers()) as socket:
        for name in ("red", "blue"):
            socket.send(json.dumps(ask | {"id": name, "model": f"base:{name}"}))
        texts = {"red": "", "blue": ""}
        open_ids = set(texts)
        while open_ids:
            frame = json.loads(socket.recv(timeout=30))
            if frame["type"] == "token":
                texts[frame["id"]] += frame["token"]
            elif frame["type"] == "done":
                open_ids.discard(frame["id"])
            else:
                assert frame["type"] != "error", frame
    assert texts == {name: expected[f"base:{name}"] for name in texts}


def test_lines_of_a_batch_are_for_adapters(box: Box, expected: dict[str, str]) -> None:
    names = ["base:red", "base", "base:blue", "base:green"]
    body = {"prompt": PROMPT, "max_tokens": COUNT, "temperature": 0, "ignore_eos": True}
    lines = [
        {"custom_id": n, "method": "POST", "url": "/v1/completions", "body": body | {"model": n}}
        for n in names
    ]
    client = openai.OpenAI(base_url=box.server.url + "/v1", api_key=box.keys["all"])
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/completions", completion_window="24h"
    )
    wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", "it is over")
    output = client.batches.retrieve(batch.id).output_file_id
    assert output is not None
    told = {}
    for line in client.files.content(output).text.splitlines():
        answer = json.loads(line)
        told[answer["custom_id"]] = answer["response"]["body"]["choices"][0]["text"]
    assert told == {name: expected[name] for name in names}


def test_series_and_accounting_have_the_adapters_name(box: Box) -> None:
    before = box.server.metric("llmserve_generation_tokens_total", model="base:red")
    box.says("base:red")
    after = box.server.metric("llmserve_generation_tokens_total", model="base:red")
    assert after - before == COUNT
    lines = (box.folder / "usage.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["model"] == "base:red"


def test_an_unload_lets_its_streams_end_and_cuts_those_that_take_too_long(box: Box) -> None:
    body = {"model": "base:red", "prompt": PROMPT, "stream": True, "ignore_eos": True}

    def stream(max_tokens: int, timeout: float) -> tuple[list[str], httpx.Response]:
        with httpx.stream(
            "POST",
            box.server.url + "/v1/completions",
            json=body | {"max_tokens": max_tokens},
            headers=box.headers(),
            timeout=60,
        ) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("data: "))
            told = [next(lines)]
            done = box.admin("/admin/unload", model="base:red", timeout=timeout)
            told += list(lines)
        return told, done

    told, done = stream(100, 30)
    assert done.status_code == 200
    assert told[-1] == "data: [DONE]"
    assert json.loads(told[-2][6:])["choices"][0]["finish_reason"] == "length"
    assert box.statuses("base:red") == ["unloaded"] * 2
    assert box.ask("base:red").status_code == 503
    box.cli("load", "base:red")
    assert box.statuses("base:red") == ["ready"] * 2
    told, done = stream(200_000, 0)
    assert done.status_code == 200
    assert any("unloaded" in line for line in told[-2:])
    box.cli("load", "nick:red")
    assert box.ask("base").status_code == 200


def test_vllms_routes_load_and_unload_by_path_below_allowed_folders_alone(
    box: Box, expected: dict[str, str]
) -> None:
    late = {"lora_name": "late", "lora_path": str(box.folder / "elsewhere" / "late")}
    refused = httpx.post(
        box.server.url + "/v1/load_lora_adapter", json=late, headers=box.headers(), timeout=20
    )
    assert refused.status_code == 403
    for path in ("forbidden/late", "elsewhere/../forbidden/late"):
        elsewhere = late | {"lora_path": f"{box.folder}/{path}"}
        refused = box.admin("/v1/load_lora_adapter", **elsewhere)
        assert refused.status_code == 400
        assert "is not below models_dir" in refused.json()["error"]["message"]
    missing = late | {"lora_path": f"{box.folder}/elsewhere/nothing"}
    assert "cannot be served" in box.admin("/v1/load_lora_adapter", **missing).text
    assert box.statuses("base:late") == [None, None]
    taken = box.admin("/v1/load_lora_adapter", **late | {"lora_name": "nick"})
    assert "the name 'nick' belongs to 'base'" in taken.json()["error"]["message"]

    loaded = box.admin("/v1/load_lora_adapter", **late)
    assert loaded.text == "Success: LoRA adapter 'late' added successfully."
    assert box.says("late") == box.says("base:late") == expected["base:late"]
    assert box.models()["base:late"]["aliases"] == ["nick:late", "late"]
    again = box.admin("/v1/load_lora_adapter", **late)
    assert again.status_code == 400
    assert "load_inplace" in again.json()["error"]["message"]
    assert box.admin("/v1/load_lora_adapter", **late, load_inplace=True).status_code == 200

    victim = (
        box.adapters
        and httpx.get(box.server.url + "/admin/status", headers=ADMIN, timeout=20).json()[
            "workers"
        ][0]["pid"]
    )
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: box.statuses("base:late") == ["ready"] * 2, "the new worker has it, too")

    gone = box.admin("/v1/unload_lora_adapter", lora_name="late", lora_int_id=1)
    assert gone.text == "Success: LoRA adapter 'late' removed successfully."
    assert box.ask("late").status_code == box.ask("base:late").status_code == 404
    assert box.admin("/v1/unload_lora_adapter", lora_name="late").status_code == 404


def test_the_command_line_loads_from_elsewhere_and_a_new_folder_by_its_name(
    box: Box, expected: dict[str, str]
) -> None:
    source = box.folder / "elsewhere" / "late"
    out = box.cli("load", "base:mine", "--from", source, "--alias", "ours")
    assert out.count("load base:mine in") == 2
    assert box.says("ours") == expected["base:late"]
    assert box.cli("unload", "ours").count("unload base:mine in") == 2
    shutil.copytree(source, box.base / "adapters" / "fresh")
    assert box.ask("base:fresh").status_code == 404
    box.cli("load", "base:fresh")
    assert box.says("base:fresh") == expected["base:late"]


def test_a_reload_of_the_base_keeps_its_adapters(box: Box, expected: dict[str, str]) -> None:
    box.cli("load", "base:blue")
    box.cli("reload", "base")
    assert box.statuses("base:blue") == ["ready"] * 2
    assert box.says("azure") == expected["base:blue"]
    box.cli("reload", "base:blue")
    assert box.says("azure") == expected["base:blue"]
    warmed = box.admin("/admin/warm", model="base:blue", prompts=["x"])
    assert warmed.status_code == 400
