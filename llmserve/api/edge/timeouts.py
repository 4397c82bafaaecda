"""A client's own deadline: the `timeout` field or the X-Request-Timeout header."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from llmserve.errors import InvalidRequest

HEADER = "X-Request-Timeout"


def header_timeout(connection: HTTPConnection) -> float | None:
    """Seconds from the header, `None` without one.

    Raises:
        InvalidRequest: not a positive number.
    """
    given = connection.headers.get(HEADER)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(f"{HEADER} must be a positive number of seconds", param=HEADER)
    return seconds


async def _timeout(connection: HTTPConnection) -> float | None:
    return header_timeout(connection)


def earliest(*timeouts: float | None) -> float | None:
    """The shortest of several timeouts, `None` if there is none."""
    return min((t for t in timeouts if t is not None), default=None)


TheTimeout = Annotated[float | None, Depends(_timeout)]
