"""lm-eval: scores by /v1/completions are those of its own `hf` backend on the same folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client_session import Report, python_session
from server import DEMO, Server

ALIKE = 1e-3
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report(demo_host: Server, tmp_path_factory: pytest.TempPathFactory) -> Report:
    cache: Path = tmp_path_factory.mktemp("datasets")
    return python_session(
        "lm_eval_session.py", demo_host.url, "demo", DEMO, cache=cache, seconds=250
    )


def numbers(answers: Any) -> Iterator[float]:
    """Log probabilities, and whether each is of the likeliest text, as 0 or 1."""
    if isinstance(answers, list):
        for answer in answers:
            yield from numbers(answer)
    else:
        yield float(answers)


@pytest.mark.parametrize(
    ("way", "task", "count"),
    [("token_ids", "choice", 160), ("texts_at_once", "choice", 160), ("token_ids", "surprise", 20)],
)
def test_each_log_probability_is_the_models(
    report: Report, way: str, task: str, count: int
) -> None:
    served, expected = (list(numbers(report[of][task]["answers"])) for of in (way, "hf"))
    assert len(served) == count
    assert served == pytest.approx(expected, abs=ALIKE)


def test_what_is_generated_is_the_models(report: Report) -> None:
    served, expected = (report[of]["ending"]["answers"] for of in ("token_ids", "hf"))
    assert len(served) == 20
    assert served == expected


@pytest.mark.parametrize("task", ["choice", "ending", "surprise"])
def test_scores_are_the_models(report: Report, task: str) -> None:
    served, expected = (report[of][task]["metrics"] for of in ("token_ids", "hf"))
    assert served
    # Perplexity is an exponential: it is alike in its digits.
    assert served == pytest.approx(expected, abs=ALIKE, rel=ALIKE)
