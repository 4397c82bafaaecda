"""Streams of lines, each of them a JSON object. Knows no dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from fastapi import Response

from llmserve.api.sse import KeepAlive, streamed
from llmserve.bootstrap import Container

NDJSON: Final = "application/x-ndjson"


def line(payload: dict[str, Any]) -> bytes:
    """One object; moments are UTC."""
    return orjson.dumps(payload, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def stream_lines(
    frames: AsyncIterator[bytes], container: Container, keep_alive: KeepAlive
) -> Response:
    """A response that sends lines as they come; the one of `keep_alive` says nothing."""
    return streamed(frames, container, keep_alive, NDJSON)
