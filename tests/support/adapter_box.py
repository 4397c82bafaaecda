"""A box of two workers whose base has adapters, and what tests ask of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from lora import make_lora, write_config
from programs import llmserve
from server import Server, running_server

from llmserve.admission.credential import digest, new_credential
from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord

ADMIN = {"Authorization": "Bearer the-operator"}
PROMPT = "Once upon a time"
COUNT = 12
OWN = ("red", "blue", "green")
KEYS = {
    "all": None,
    "base": ("base",),
    "red": ("base:red",),
    "star": ("nick:*",),
    "alias": ("azure",),
}
"""Which models each is for."""


class Box:
    """Two workers with one base, three adapters and a broken one, of which two are loaded at a
    time."""

    def __init__(self, server: Server, folder: Path, keys: Mapping[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.keys = keys
        self.base = folder / "models" / "base"

    def headers(self, key: str = "all") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[key]}"}

    def ask(self, model: str, key: str = "all", **fields: object) -> httpx.Response:
        body = {"model": model, "prompt": PROMPT, "max_tokens": COUNT, "temperature": 0}
        return httpx.post(
            self.server.url + "/v1/completions",
            json=body | {"ignore_eos": True} | fields,
            headers=self.headers(key),
            timeout=60,
        )

    def says(self, model: str) -> str:
        answer = self.ask(model)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def admin(self, path: str, **fields: object) -> httpx.Response:
        return httpx.post(self.server.url + path, json=fields, headers=ADMIN, timeout=60)

    def cli(self, *arguments: object) -> str:
        ran = llmserve(*arguments, "--url", self.server.url, admin_key="the-operator")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def models(self, key: str = "all") -> dict[str, dict[str, Any]]:
        answer = httpx.get(self.server.url + "/v1/models", headers=self.headers(key), timeout=20)
        return {model["id"]: model for model in answer.json()["data"]}

    def adapters(self) -> list[dict[str, dict[str, Any]]]:
        """Of each worker, by name."""
        status = httpx.get(self.server.url + "/admin/status", headers=ADMIN, timeout=20).json()
        return [
            {adapter["name"]: adapter for adapter in worker["models"][0].get("adapters", ())}
            for worker in status["workers"]
        ]

    def statuses(self, name: str) -> list[str | None]:
        return [adapters.get(name, {}).get("status") for adapters in self.adapters()]


def made_keys(path: Path) -> dict[str, str]:
    keys = {}
    with KeyFile(path).edit() as records:
        for name, models in KEYS.items():
            key_id, keys[name] = new_credential()
            hashed = digest(keys[name]).hex()
            record = KeyRecord(
                id=key_id, name=name, hash=hashed, models=models, created_at=datetime.now(UTC)
            )
            records.append(record)
    return keys


@contextlib.contextmanager
def running_box(folder: Path, model: Path) -> Iterator[Box]:
    base = folder / "models" / "base"
    shutil.copytree(model, base)
    for seed, name in enumerate(OWN):
        make_lora(base, base / "adapters" / name, seed=seed, rank=2 + seed)
    write_config(base / "adapters" / "broken", peft_type="IA3")
    make_lora(base, folder / "elsewhere" / "late", seed=7)
    make_lora(base, folder / "forbidden" / "late", seed=8)
    (base / "model.toml").write_text(
        'aliases = ["nick"]\ndtype = "float32"\n[[adapters]]\nname = "blue"\naliases = ["azure"]\n'
    )
    keys = made_keys(folder / "keys.json")
    with running_server(
        folder,
        "base",
        workers=2,
        max_running=8,
        max_adapters=2,
        adapter_dirs=folder / "elsewhere",
        admin_keys="the-operator",
        keys_file=folder / "keys.json",
        accounting_log=folder / "usage.jsonl",
        jobs_dir=folder / "jobs",
        grpc_port=0,
    ) as server:
        server.wait_for_log("is ready after", times=2)
        yield Box(server, folder, keys)
