"""What operators see of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from loguru import logger

from llmserve.observability.recent_problems import MAX_LETTERS, MOST, RecentProblems


@pytest.fixture
def problems() -> Iterator[RecentProblems]:
    started = RecentProblems().start()
    yield started
    started.close()


def test_only_the_last_ones_are_kept_and_cut_short(problems: RecentProblems) -> None:
    for number in range(MOST + 5):
        logger.warning("{} {}", number, "x" * 1000)
    told = problems.read()
    assert len(told) == MOST
    assert told[0]["message"].startswith("5 x")
    assert all(len(one["message"]) == MAX_LETTERS for one in told)


def test_what_is_no_problem_is_not_there(problems: RecentProblems) -> None:
    logger.info("fine")
    with logger.contextualize(request_id="r1"):
        logger.error("bad")
    [told] = problems.read()
    assert (told["level"], told["message"], told["request_id"]) == ("ERROR", "bad", "r1")
    assert told["time"] == pytest.approx(time.time(), abs=60)


def test_it_listens_until_it_is_closed(problems: RecentProblems) -> None:
    problems.close()
    problems.close()
    logger.error("late")
    assert problems.read() == []


def test_logging_may_be_configured_anew(problems: RecentProblems) -> None:
    logger.remove()
    problems.close()
