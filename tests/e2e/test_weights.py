"""Model folders as they come from other people, on a running server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import torch
from safetensors.torch import load_file
from server import running_server


def test_folders_with_more_less_or_other_weight_files(tmp_path: Path, tiny_model: Path) -> None:
    models = tmp_path / "models"
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
    with running_server(tmp_path, "strays", "pickled", "torn", wait=False) as server:
        server.wait_for_log("is ready after", times=2)
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
