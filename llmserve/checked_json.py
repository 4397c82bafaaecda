"""JSON from clients through orjson: strict about NaN, UTF-8, surrogates and depth."""

from __future__ import annotations

from typing import Any, Final

import orjson

from llmserve.errors import InvalidRequest

ORJSON_MAX_DEPTH: Final = 1024
"""Levels of nesting that orjson reads; its documentation gives the number, a test checks it."""


def checked_json(body: bytes | str, max_depth: int) -> Any:
    """Parse, and refuse what is nested too deeply for the code that reads it.

    orjson also refuses NaN, invalid UTF-8, lone surrogates and a byte order mark; of duplicate
    keys the last one counts.

    Raises:
        orjson.JSONDecodeError: not JSON.
        InvalidRequest: nested too deeply.
    """
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if raw.count(b"[") + raw.count(b"{") <= max_depth:
        return orjson.loads(raw)
    try:
        return _parse_inside(raw, ORJSON_MAX_DEPTH - max_depth)
    except ValueError as error:
        if "limit" not in str(error):
            orjson.loads(raw)  # says what is wrong, and where, in the client's own text
    raise InvalidRequest(
        f"the JSON is nested deeper than this server's limit of {max_depth} levels; flatten it"
    )


def _parse_inside(raw: bytes, arrays: int) -> Any:
    """The value, parsed inside this many arrays, which leave it only part of orjson's own depth.

    That costs a copy; a scan in Python would hold up the event loop for longer than the parse.

    Raises:
        ValueError: not JSON, too deep, or text that closes the arrays around it.
    """
    value = orjson.loads(b"[" * arrays + raw + b"]" * arrays)
    for _ in range(arrays):
        [value] = value
    return value
