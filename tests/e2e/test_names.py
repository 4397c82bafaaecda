"""What a model is called, on a running server, and names that mean nothing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest
from box import pids
from programs import llmserve
from server import Server, free_port, idle_server, running_server


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


def test_a_reload_that_is_refused_changes_nothing(folder: Path) -> None:
    shutil.copytree(folder / "models" / "v1", folder / "models" / "v2")
    manifest = folder / "models" / "v1" / "model.toml"
    manifest.write_text("aliases = ['mine']")

    def reload(server: Server) -> httpx.Response:
        return httpx.post(server.url + "/admin/reload", json={"model": "v1"}, timeout=60)

    with running_server(folder, "v1", "v2") as server:
        body = {"prompt": "hi", "max_tokens": 1}
        for broken in ("aliases = ['v2']", "dtipe = 'float32'"):
            manifest.write_text(broken)
            assert "ok" not in {w.get("status") for w in reload(server).json()["workers"]}
            for name in ({"model": "v1"}, {"model": "mine"}, {}):
                answer = httpx.post(server.url + "/generate", json=body | name, timeout=60)
                assert (answer.status_code, answer.json()["model"]) == (200, "v1")
        manifest.write_text("aliases = ['new']")
        assert reload(server).status_code == 200
        body["model"] = "new"
        assert httpx.post(server.url + "/generate", json=body, timeout=60).status_code == 200
        assert server.stop() == 0
    assert "a thread hangs" not in server.log


def test_a_manifest_that_breaks_under_a_server_costs_its_own_model_at_most(folder: Path) -> None:
    shutil.copytree(folder / "models" / "v1", folder / "models" / "v2")
    manifest = folder / "models" / "v1" / "model.toml"
    with running_server(folder, "v1", "v2") as server:
        manifest.write_text("dtipe = 'float32'")
        (pid,) = pids(server).values()
        os.kill(pid, signal.SIGKILL)
        server.wait_for_log("is ready after", times=3)  # v2 again, and no more
        told = server.wait_until("/health/ready", 503).json()["models"]
        assert [(model["name"], model["status"]) for model in told] == [
            ("v1", "broken"), ("v2", "ready"),
        ]  # fmt: skip
        assert "dtipe" in told[0]["error"]
        body = {"prompt": "hi", "max_tokens": 1}
        answers = [
            httpx.post(server.url + "/generate", json=body | {"model": name}, timeout=60)
            for name in ("v1", "v2")
        ]
        assert [answer.status_code for answer in answers] == [503, 200]
        manifest.unlink()
        done = httpx.post(server.url + "/admin/load", json={"model": "v1"}, timeout=60)
        assert done.status_code == 200
        server.wait_until("/health/ready", 200)


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
