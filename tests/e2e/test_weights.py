"""Model folders as they come from other people, on a running server."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file
from server import Server, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("weights")
    models = folder / "models"
    for name in ("strays", "pickled", "torn"):
        shutil.copytree(tiny_model, models / name)
    weights = "model.safetensors"
    for stray in ("consolidated.safetensors", "pytorch_model.bin", "optimizer.bin"):
        (models / "strays" / stray).write_bytes(b"x" * 50_000_000)
    torch.save(load_file(models / "pickled" / weights), models / "pickled" / "pytorch_model.bin")
    (models / "pickled" / weights).unlink()
    index = {"metadata": {}, "weight_map": {"x": "model-00001-of-00001.safetensors"}}
    (models / "torn" / "model.safetensors.index.json").write_text(json.dumps(index))
    (models / "torn" / weights).unlink()
    (models / "broken").mkdir()
    (models / "broken" / "config.json").write_text("{}")
    with running_server(folder, "strays", "pickled", "torn", "broken", wait=False) as running:
        body = running.wait_until("/health/ready", 503).json()
        while body["status"] != "broken" or "loading" in {m["status"] for m in body["models"]}:
            time.sleep(0.1)
            body = httpx.get(running.url + "/health/ready").json()
        yield running


def test_folders_with_more_less_or_other_weight_files(server: Server) -> None:
    server.wait_for_log("model-00001-of-00001.safetensors", times=1)
    body = {"prompt": "Once upon", "max_tokens": 8, "temperature": 0}
    answers = [
        httpx.post(server.url + "/generate", json=body | {"model": name}, timeout=60)
        for name in ("strays", "pickled", "torn")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert answers[0].json()["result"] == answers[1].json()["result"]
    assert "model-00001-of-00001.safetensors" in answers[2].text
    assert "0.00 GiB (strays: weights)" in server.log, "strays are not counted"


def test_a_missing_or_broken_model_leaves_the_server_up(server: Server) -> None:
    body = httpx.get(server.url + "/health/ready").json()
    assert body["status"] == "broken"
    told = {model["name"]: model.get("error", "") for model in body["models"]}
    assert "broken" in told["broken"]
    assert httpx.get(server.url + "/health").status_code == 200
    request = {"prompt": "hi", "max_tokens": 1}
    assert httpx.post(server.url + "/generate", json=request).status_code == 200
    refused = httpx.post(server.url + "/generate", json=request | {"model": "broken"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_broken")
