"""Adapters by vLLM's routes and by /admin/load: wrong bodies, names that mean several; over a fake
engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import AdaptingEngine
from fastapi.testclient import TestClient
from lora import write_config

from llmserve.api.app import create_app
from llmserve.bootstrap import models
from llmserve.settings import Settings


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    """A server of `one` and `two`, each with an adapter `own`."""
    for name in ("one", "two"):
        write_config(tmp_path / name / "adapters" / "own")
        (tmp_path / name / "config.json").write_text("{}")
    write_config(tmp_path / "late")
    monkeypatch.setattr(models, "build_engine", lambda *_: AdaptingEngine())
    settings = Settings(models=("one", "two"), models_dir=tmp_path, drain_timeout_seconds=1)
    here = ("127.0.0.1", 50000)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=here) as made:
        yield made


def message(response: Any) -> str:
    assert response.status_code == 400, response.text
    return str(response.json()["error"]["message"])


def test_a_wrong_body_names_its_field(client: TestClient, tmp_path: Path) -> None:
    path = str(tmp_path / "late")
    for body, told in [
        ({"lora_path": path}, "lora_name"),
        ({"lora_name": "late"}, "lora_path"),
        ({"lora_name": "a:b", "lora_path": path}, "is no name for an adapter"),
        ({"lora_name": "latest", "lora_path": path}, "Ollama's tag"),
        ({"lora_name": "late", "lora_path": path, "load_inplace": "yes"}, "load_inplace"),
    ]:
        assert told in message(client.post("/v1/load_lora_adapter", json=body))
    for body, told in [
        ({"model": "one", "source": path}, "write model as BASE:ADAPTER"),
        ({"source": path}, "write model as BASE:ADAPTER"),
        ({"model": "one:a b", "source": path}, "is no name for an adapter"),
        ({"model": "one:late", "revision": "main"}, "need a source"),
        ({"model": "one:late", "aliases": ["x"]}, "need a source"),
    ]:
        assert told in message(client.post("/admin/load", json=body))


def test_an_unknown_field_is_told(client: TestClient, tmp_path: Path) -> None:
    body = {"lora_name": "late", "lora_path": str(tmp_path / "late"), "lora_kind": "3d"}
    answer = client.post("/v1/load_lora_adapter", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "lora_kind"


def test_an_adapters_name_is_of_one_base(client: TestClient, tmp_path: Path) -> None:
    body = {"lora_name": "late", "lora_path": str(tmp_path / "late"), "base_model_name": "two"}
    assert client.post("/v1/load_lora_adapter", json=body).status_code == 200
    taken = body | {"base_model_name": "one"}
    assert "belongs to 'two:late'" in client.post("/v1/load_lora_adapter", json=taken).text
    assert (
        client.post("/v1/load_lora_adapter", json=body | {"base_model_name": "three"}).status_code
        == 404
    )
    gone = client.post("/v1/unload_lora_adapter", json={"lora_name": "own"})
    assert gone.status_code == 404
    assert "there are one:own, two:own" in gone.json()["error"]["message"]
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "late"}).status_code == 200
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names == ["one", "one:own", "two", "two:own"]
