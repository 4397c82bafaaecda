"""Servers that several end-to-end tests share."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import pids, wait_until
from server import DEMO, Server, running_server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model, as scripts/serve starts it, with room for 200 streams to wait."""
    with running_server(
        tmp_path_factory.mktemp("demo"), DEMO, max_waiting=512, log_level="DEBUG"
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test on the shared server nothing runs and nothing waits."""
    yield
    if "demo" in request.fixturenames:
        request.getfixturevalue("demo").wait_for_load(0, 0)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """A model with random weights and no settings; for tests that leave the server as it was."""
    with running_server(tmp_path_factory.mktemp("plain"), tiny_model) as running:
        yield running


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Where the pair was started: its settings file, `models` and `run` lie here."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("first", "second", "third"):
        shutil.copytree(tiny_model, folder / "models" / name)
    return folder


@pytest.fixture(scope="session")
def running_pair(pair_folder: Path) -> Iterator[Server]:
    with running_server(
        pair_folder,
        "first",
        workers=2,
        max_running=8,
        models_on_demand="second",
        run_dir=pair_folder / "run",
    ) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log


@pytest.fixture
def pair(running_pair: Server) -> Server:
    """Two workers that serve `first`, and `second` on demand. A test may end a worker or restart
    both: the next one begins when two serve again."""
    wait_until(lambda: len(pids(running_pair)) == 2, "two workers serve")
    return running_pair


@pytest.fixture(scope="module")
def server(plain: Server) -> Server:
    """The server that a file's tests talk to; a file that needs settings has its own."""
    return plain


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    """A client without HTTP. What it did leaves nothing running, and no traceback."""
    logged = len(server.log)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as opened:
        yield opened
    server.wait_for_load(0, 0)
    assert "Traceback" not in server.log[logged:]
    assert "ERROR" not in server.log[logged:]
