"""A supervisor that hurries, and one whose clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger
from manual_clock import ManualClock
from workers.house import House

from llmserve.workers import supervisor as module
from llmserve.workers import worker_slot


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor looks often, and waits little before it tries again."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(worker_slot, "FIRST_DELAY_SECONDS", 0.01)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What is logged as an error."""
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="ERROR")
    yield log
    logger.remove(sink)


@pytest.fixture
def old(tmp_path: Path) -> House:
    """A house whose clock is the test's, and whose workers do as they please."""
    house = House(tmp_path, machine=ManualClock(), worker_start_seconds=5.0)
    house.is_obeyed = False
    return house
