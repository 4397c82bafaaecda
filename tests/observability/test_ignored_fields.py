"""One line for a field of a client, and memory that is bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from llmserve.observability.ignored_fields import IgnoredFields
from llmserve.observability.metrics import Metrics


@pytest.fixture
def lines() -> Iterator[list[str]]:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(message.record["message"]), level="DEBUG")
    yield told
    logger.remove(sink)


def test_each_field_of_each_client_is_logged_once_and_counted_always(lines: list[str]) -> None:
    metrics = Metrics()
    ignored = IgnoredFields(metrics)
    ignored.tell("ann", ["a", "messages.b"])
    ignored.tell("ann", ["a", "c"])
    ignored.tell("bob", ["a"])
    ignored.tell("ann", ["a", "c", "messages.b"])
    assert [line.partition(" sends ")[0] for line in lines] == ["ann", "ann", "bob"]
    assert [line.rpartition(": ")[2] for line in lines] == ["a, messages.b", "c", "a"]
    text = metrics.render().decode()
    assert 'llmserve_ignored_fields_total{place="body"} 6.0' in text
    assert 'llmserve_ignored_fields_total{place="messages"} 2.0' in text


def test_it_remembers_a_bounded_number_the_latest(lines: list[str]) -> None:
    ignored = IgnoredFields(Metrics(), max_known=3)
    for field in ("a", "b", "a", "c", "d", "a"):
        ignored.tell("ann", [field])
    assert len(lines) == 4, "`a` was sent again before it was the oldest"
    ignored.tell("ann", ["b"])
    assert len(lines) == 5, "`b` had to go"
    assert len(ignored._known) == 3
