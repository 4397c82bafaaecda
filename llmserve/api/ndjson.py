"""Streams of lines, each of them a JSON object. Knows no dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import orjson
from fastapi import Response

from llmserve.api.answer import Stream
from llmserve.api.sse import streamed
from llmserve.bootstrap import Container

NDJSON: Final = "application/x-ndjson"


def line(payload: dict[str, Any]) -> bytes:
    """One object; moments are UTC."""
    return orjson.dumps(payload, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def lines_kept_alive(quiet_line: Callable[[], bytes]) -> Stream:
    """A stream of lines. `quiet_line`, which says nothing, keeps a quiet connection alive."""
    return partial(_stream, quiet_line)


def _stream(
    quiet_line: Callable[[], bytes], frames: AsyncIterator[bytes], container: Container
) -> Response:
    return streamed(frames, container, quiet_line, NDJSON)
