"""Fixtures that every room's tests may use: a tiny model, and a watch over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from make_model import make_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and a real tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model("tiny-llama", folder)
    return folder


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """The test leaves no generate thread behind."""
    yield
    deadline = time.monotonic() + 10
    while names := [t.name for t in threading.enumerate() if t.name.startswith("generate-")]:
        assert time.monotonic() < deadline, f"threads left: {names}"
        time.sleep(0.01)
