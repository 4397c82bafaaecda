"""What a model is called, on a running server, and names that mean nothing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from box import pids
from programs import llmserve
from server import Server, free_port, idle_server, running_server

SEVERAL = ("v1", "v2", "v3", "v4")


def refused(folder: Path, *arguments: str) -> str:
    """What a server says that does not start."""
    done = llmserve("serve", "--port", free_port(), *arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def create_key(folder: Path, name: str, *models: str) -> None:
    chosen = [word for model in models for word in ("--model", model)]
    llmserve("keys", "create", name, "--file", "keys.json", *chosen, cwd=folder).check_returncode()


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "models").mkdir()
    shutil.copytree(tiny_model, tmp_path / "models" / "v1")
    (tmp_path / "models" / "current").symlink_to("v1")
    return tmp_path


def test_a_linked_folder_is_served_under_the_links_name(folder: Path) -> None:
    (folder / "elsewhere").symlink_to(folder / "models" / "v1")
    settings = {"pinned_models": "current", "default_model": "elsewhere"}
    with running_server(folder, "current", "./elsewhere", **settings) as server:
        listed = httpx.get(server.url + "/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["current", "elsewhere"]
        body = {"prompt": "hi", "max_tokens": 1}
        answers = [
            httpx.post(server.url + "/generate", json=body | named, timeout=60).json()
            for named in ({"model": "current"}, {})
        ]
        assert [answer["model"] for answer in answers] == ["current", "elsewhere"]


@pytest.fixture(scope="module")
def several_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for name in SEVERAL:
        shutil.copytree(tiny_model, folder / "models" / name)
    (folder / "models" / "v1" / "model.toml").write_text("aliases = ['mine']")
    return folder


@pytest.fixture(scope="module")
def several(several_folder: Path) -> Iterator[Server]:
    """Four models, of which each test breaks another one."""
    with running_server(several_folder, *SEVERAL) as running:
        yield running
        assert running.stop() == 0
        assert "a thread hangs" not in running.log


def test_a_reload_that_is_refused_changes_nothing(several: Server, several_folder: Path) -> None:
    manifest = several_folder / "models" / "v1" / "model.toml"

    def reload() -> httpx.Response:
        return httpx.post(several.url + "/admin/reload", json={"model": "v1"}, timeout=60)

    body = {"prompt": "hi", "max_tokens": 1}
    for broken in ("aliases = ['v2']", "dtipe = 'float32'"):
        manifest.write_text(broken)
        assert "ok" not in {w.get("status") for w in reload().json()["workers"]}
        for name in ({"model": "v1"}, {"model": "mine"}, {}):
            answer = httpx.post(several.url + "/generate", json=body | name, timeout=60)
            assert (answer.status_code, answer.json()["model"]) == (200, "v1")
    manifest.write_text("aliases = ['new']")
    assert reload().status_code == 200
    body["model"] = "new"
    assert httpx.post(several.url + "/generate", json=body, timeout=60).status_code == 200


def test_a_manifest_that_breaks_under_a_server_costs_its_own_model_at_most(
    several: Server, several_folder: Path
) -> None:
    manifest = several_folder / "models" / "v3" / "model.toml"
    manifest.write_text("dtipe = 'float32'")
    ready = several.log.count("is ready after")
    (pid,) = pids(several).values()
    os.kill(pid, signal.SIGKILL)
    several.wait_for_log("is ready after", times=ready + 3)  # the others again, and no more
    told = several.wait_until("/health/ready", 503).json()["models"]
    assert [(model["name"], model["status"]) for model in told] == [
        ("v1", "ready"), ("v2", "ready"), ("v3", "broken"), ("v4", "ready"),
    ]  # fmt: skip
    assert "dtipe" in told[2]["error"]
    body = {"prompt": "hi", "max_tokens": 1}
    answers = [
        httpx.post(several.url + "/generate", json=body | {"model": name}, timeout=60)
        for name in ("v3", "v4")
    ]
    assert [answer.status_code for answer in answers] == [503, 200]
    manifest.unlink()
    done = httpx.post(several.url + "/admin/load", json={"model": "v3"}, timeout=60)
    assert done.status_code == 200
    several.wait_until("/health/ready", 200)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--default-model", "curent"), "default_model names 'curent'"),
        (("--pinned-models", "v1,curent"), "pinned_models names 'v1'"),
        (("--keys-file", "keys.json"), "key 'team' is for 'curent'"),
    ],
)
def test_a_name_that_means_nothing_ends_the_start(
    folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    create_key(folder, "team", "curent")
    said = refused(folder, "current", *arguments)
    assert told in said
    assert "did you mean 'current'" in said or "served are current" in said


def test_models_on_demand_count_as_served(folder: Path) -> None:
    create_key(folder, "team", "v1")
    settings = {
        "default_model": "v1",
        "pinned_models": "v1",
        "keys_file": folder / "keys.json",
    }
    with idle_server(folder, "current,*", **settings) as server:
        # The file changes while the server runs: it is told, and nobody dies of it.
        create_key(folder, "other", "v2")
        deadline = time.monotonic() + 30
        while "key 'other' is for 'v2', which is not served" not in server.log:
            httpx.get(server.url + "/v1/models", headers={"Authorization": "Bearer x"})
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("rolling restart is done", times=1)
