"""A limiter under a manual clock, in memory and in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from manual_clock import ManualClock

from llmserve.admission.limits import Limiter
from llmserve.clock import AwakeClock


@pytest.fixture
def machine() -> ManualClock:
    return ManualClock()


@pytest.fixture
def clock(machine: ManualClock) -> AwakeClock:
    return AwakeClock(machine)


@pytest.fixture(params=["alone", "shared"])
def limiter(request: pytest.FixtureRequest, tmp_path: Path, clock: AwakeClock) -> Limiter:
    return Limiter(tmp_path if request.param == "shared" else None, clock)
