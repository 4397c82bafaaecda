from __future__ import annotations

import pytest

from llmserve.doctor import Verdict
from llmserve.doctor.clock import judge_clock

DATE = "Tue, 20 Oct 2026 12:00:00 GMT"
SECONDS = 1_792_497_600


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 99 Oct 2026 12:00:00 GMT"])
def test_no_date_is_no_verdict(date: str | None) -> None:
    assert judge_clock(date, SECONDS).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(("off", "word"), [(-60, "ahead"), (60, "behind"), (7200, "behind")])
def test_a_clock_that_is_off_is_a_warning_that_says_which_way(off: int, word: str) -> None:
    finding = judge_clock(DATE, SECONDS + off)
    assert finding.verdict is Verdict.WARNING
    assert word in finding.seen
    assert finding.change


@pytest.mark.parametrize("off", [-4, 0, 0.9, 4])
def test_a_few_seconds_are_nothing(off: float) -> None:
    assert judge_clock(DATE, SECONDS + off).verdict is Verdict.OK
