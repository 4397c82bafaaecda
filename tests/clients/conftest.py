"""The server that client libraries talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server import DEMO, Server, running_server


@pytest.fixture(scope="session")
def demo_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model, in the arithmetic that lm-eval's backend has, and one of random weights that
    thinks. A field that it would ignore is refused: no library may send one. Responses are kept."""
    # Imported here: it imports torch.
    from thinking_model import make_thinking_model

    folder = tmp_path_factory.mktemp("demo_host")
    with running_server(
        folder,
        DEMO,
        make_thinking_model(folder / "thinker", "batching"),
        strict_fields=True,
        responses_store=folder / "responses.db",
        device="cpu",
        dtype="float32",
        stream_resume_seconds=30,
    ) as running:
        yield running
        running.wait_for_load(0, 0)
        assert "Traceback" not in running.log
