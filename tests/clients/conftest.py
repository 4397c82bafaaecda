"""The server that client libraries talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server import DEMO, Server, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model."""
    with running_server(tmp_path_factory.mktemp("clients"), DEMO) as running:
        yield running
