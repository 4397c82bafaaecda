"""scripts/bench-hybrids: both engines in turn, one that refuses a model, an older commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from make_model import make_model
from measure.hybrids.__main__ import _comparison, _row, _share
from measure.hybrids.checkouts import NoSuchCommit, measure_checkouts
from measure.hybrids.engines import BothEngines, measure_both
from measure.speed.limits import Workload

SMALL = Workload(6, 8, 4)
"""More than the threaded engine takes at once."""


@pytest.mark.slow
def test_both_engines_answer_all_requests(tiny_model: Path) -> None:
    found = asyncio.run(measure_both(tiny_model, SMALL, rounds=2))
    assert found.batching is not None
    assert len(found.batching) == len(found.threaded) == 2
    assert min(*found.batching, *found.threaded) > 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny-qwen3-next", "tiny-mamba2"])
def test_a_hybrid_is_measured_on_threads_at_least(preset: str, tmp_path: Path) -> None:
    make_model(preset, tmp_path / preset)
    found = asyncio.run(measure_both(tmp_path / preset, SMALL, rounds=1))
    assert len(found.threaded) == 1
    assert found.batching is not None or "cannot be served by the batching engine" in found.why


def test_a_commit_that_is_not_there_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(NoSuchCommit, match="no-such-commit"):
        measure_checkouts(tmp_path, "no-such-commit", SMALL, 1, tmp_path)


def test_medians_stand_side_by_side() -> None:
    found = BothEngines([300.0, 100.0, 310.0], [100.0, 90.0, 110.0], "auto")
    assert _row("tiny", found) == "| tiny | 300 | 100 | 3.00 |"
    refused = BothEngines(None, [100.0], "it keeps a state")
    assert _row("tiny", refused) == "| tiny | refused: it keeps a state | 100 | |"


def test_each_round_is_compared_with_its_own_time() -> None:
    now, before = [50.0, 200.0, 99.0], [50.0, 100.0, 100.0]
    assert _share(now, before) == 1.0
    *_, ratio = _comparison("abc", SMALL, now, before)
    assert ratio == "\nRatio: 1.000 (median of the rounds' own ratios)"
