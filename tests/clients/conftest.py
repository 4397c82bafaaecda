"""The server that client libraries talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server import DEMO, Server, running_server


@pytest.fixture(scope="session")
def demo_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model, in the arithmetic that lm-eval's backend has, and of random weights one that
    thinks and three that encode. A field that it would ignore is refused: no library may send one.
    Responses are kept."""
    # Imported here: they import torch.
    from thinking_model import make_thinking_model
    from tiny_encoders import save_classifier, save_encoder

    folder = tmp_path_factory.mktemp("demo_host")
    with running_server(
        folder,
        DEMO,
        make_thinking_model(folder / "thinker", "batching"),
        save_encoder(folder / "demo-embedding", is_normalized=True),
        save_classifier(folder / "ranker", num_labels=1),
        save_classifier(folder / "classifier", id2label={0: "sad", 1: "calm", 2: "glad"}),
        strict_fields=True,
        responses_store=folder / "responses.db",
        device="cpu",
        dtype="float32",
        stream_resume_seconds=30,
    ) as running:
        yield running
        running.wait_for_load(0, 0)
        assert "Traceback" not in running.log
