"""The server that an end-to-end test talks to if its file has none of its own, and one more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server, running_server


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    """It refuses fields that it does not know, and obeys special tokens in messages."""
    with running_server(
        tmp_path_factory.mktemp("strict"),
        tiny_model,
        strict_fields=True,
        parse_special_tokens=True,
    ) as running:
        yield running


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
