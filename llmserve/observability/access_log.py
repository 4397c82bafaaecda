"""The log's line for each request. Loguru takes a tenth of a millisecond for one, which is much of
what a short request costs: where its lines end in a file or a pipe, these are written beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loguru import logger

from llmserve.observability.context import request_id
from llmserve.observability.line_sink import LineSink


@dataclass(frozen=True, slots=True)
class AccessLine:
    """What a request's line says; `time` knows its zone."""

    time: datetime
    level: str
    request_id: str
    message: str
    fields: Mapping[str, Any]


Format = Callable[[AccessLine], str]


@dataclass(slots=True)
class _Way:
    """Where lines go, those of at least this level; without a sink, to loguru."""

    sink: LineSink | None = None
    form: Format | None = None
    least: int = 0


_way = _Way()
_numbers: dict[str, int] = {}


def write_access_lines(sink: LineSink | None, form: Format, least: int) -> None:
    """From now on these lines are written there, in this form, if their level is at least this
    number; without a sink they go to loguru, as in the beginning."""
    _way.sink, _way.form, _way.least = sink, form, least


def log_access(level: str, message: str, fields: Mapping[str, Any]) -> None:
    """Log the current request, which has been answered."""
    if _way.sink is None or _way.form is None:
        logger.bind(**fields).log(level, "{}", message)
        return
    number = _numbers.get(level)
    if number is None:
        number = _numbers[level] = logger.level(level).no
    if number >= _way.least:
        now = datetime.now().astimezone()
        line = AccessLine(now, level, request_id.get() or "-", message, fields)
        try:
            _way.sink.write(_way.form(line))
        # A full disk, a closed pipe: loguru reports it, and no request fails of it.
        except (OSError, ValueError):
            logger.bind(**fields).log(level, "{}", message)
