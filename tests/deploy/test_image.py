"""What the image runs, run in a shell: it can be reached, and its health check finds it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.dockerfile import command, environment, instructions
from programs import started
from server import Server, free_port, idle_server

from llmserve.settings import load_settings


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image's environment, but for where it listens and what only an image has; its folder."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("LLMSERVE_HOST", "127.0.0.1")
    monkeypatch.setenv("LLMSERVE_ADDRESS_FILE", str(tmp_path / "llmserve.address"))
    monkeypatch.setenv("LLMSERVE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def container(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`docker run IMAGE ARGUMENTS`."""
    with started((*command("ENTRYPOINT"), *arguments), folder / "log", stop_seconds=60) as process:
        yield process


def health(*arguments: str) -> int:
    """The exit code of the image's health check."""
    words = [*command("HEALTHCHECK"), *arguments]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode


def test_it_listens_where_it_can_be_reached_and_keeps_its_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    settings = load_settings().settings
    assert settings.host == "0.0.0.0"
    assert ("EXPOSE", str(settings.port)) in instructions()
    (volume,) = [rest for name, rest in instructions() if name == "VOLUME"]
    made = " ".join(rest for name, rest in instructions() if name == "RUN")
    assert f"--owner=llmserve --group=llmserve {volume}" in made
    caches = ("LLMSERVE_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "HF_HOME")
    for name in caches:
        assert Path(environment()[name]).parent == Path(volume)


@pytest.mark.parametrize("where", ["flag", "environment", "file", "free"])
def test_the_health_check_follows_the_port(
    image: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    port = free_port()
    arguments: tuple[object, ...] = ()
    if where == "flag":
        arguments = (tiny_model, "--port", str(port))
    elif where == "free":
        arguments = ("--port", "0")
    elif where == "environment":
        monkeypatch.setenv("LLMSERVE_PORT", str(port))
    else:
        (image / "llmserve.toml").write_text(f"port = {port}\n")
    if where != "flag":  # then it has no model to load, and is ready all the same
        monkeypatch.setenv("LLMSERVE_MODELS", "[]")
        monkeypatch.setenv("LLMSERVE_MODELS_ON_DEMAND", str(tiny_model))
    assert health() == 1
    with container(image, *arguments) as process:
        server = Server(process, port, image / "log")
        server.wait_for_log("accepts connections", times=1)
        assert health() == 0
        if where != "free":
            server.wait_until("/health/ready", 200)
            assert health("--ready") == 0
    assert health() == 1


def test_a_server_that_is_killed_is_not_well(image: Path, tiny_model: Path) -> None:
    # The address stays behind, as in a container that is started again.
    with idle_server(image, tiny_model, address_file=image / "llmserve.address") as server:
        server.wait_until("/health", 200)
        assert health() == 0
        server.process.kill()
        server.process.wait()
        assert (image / "llmserve.address").exists()
        server.wait_for_log("Finished server process", times=1)  # its worker has noticed
        assert health() == 1
