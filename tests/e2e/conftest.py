"""Servers that several end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture
def tiny(tiny_model: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own on a model with random weights."""
    with running_server(tmp_path, tiny_model, max_running=1, max_waiting=2) as server:
        yield server
