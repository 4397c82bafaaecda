"""Loguru set-up: one line per event, for people or for machines.

Prompts and keys never reach a log: tracebacks are printed without variables, and libraries
that log what they send are kept above DEBUG.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson
from loguru import logger

from llmserve.observability.access_log import AccessLine, write_access_lines
from llmserve.observability.context import request_id
from llmserve.observability.line_sink import LineSink

if TYPE_CHECKING:
    from loguru import Record

# These log whole requests, chunks of answers or URLs with prompts at DEBUG or INFO.
CHATTY: Final = (
    "sse_starlette",
    "websockets",
    "uvicorn.access",
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "urllib3",
    "filelock",
    "asyncio",
    "multipart",
    "watchfiles",
)
# Uvicorn's line for a WebSocket contains its query string, which may hold a secret.
UVICORN_WEBSOCKET: Final = '%s - "WebSocket %s"'
CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
"""Control characters, which a terminal would execute, and their escaped forms."""

JSON_CONTROLS: Final = {code: f"\\u{code:04x}" for code in range(127, 160)}
"""Those that orjson does not escape."""

HUMAN_FORMAT: Final = (
    "<green>{time:YYYY-MM-DD HH:mm:ss.SSS}</green> <level>{level: <7}</level> "
    "<cyan>{extra[request_id]}</cyan> {message}{extra[details]}\n{exception}"
)


def configure_logging(log_format: str, log_level: str, sink: TextIO | None = None) -> None:
    """Send every log of this process, the standard library's included, to one sink.

    `log_format` is `human` or `json` (one JSON object per line). The sink is stderr unless
    another is given.
    """
    logger.remove()
    logger.configure(patcher=_add_request)
    target = sink or sys.stderr
    lines = LineSink(target)
    least = logger.level(log_level).no
    how: dict[str, Any] = {"level": log_level, "diagnose": False, "backtrace": False}
    if log_format == "json":
        logger.add(lambda message: lines.write(_as_json(message.record)), **how)
        write_access_lines(lines, _access_as_json, least)
    elif target.isatty():
        logger.add(target, format=_human, **how)  # with colours
        write_access_lines(None, _access_as_text, least)
    else:
        logger.add(lambda message: lines.write(message.removesuffix("\n")), format=_human, **how)
        write_access_lines(lines, _access_as_text, least)
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.getLevelName(log_level), force=True)
    for name in logging.root.manager.loggerDict:
        inherited = logging.getLogger(name)
        inherited.handlers, inherited.propagate = [], True
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # At DEBUG it logs every header and frame of a WebSocket, keys and prompts included.
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)


class _ToLoguru(logging.Handler):
    """Passes records of the standard library's logging on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one record with its level and traceback."""
        if str(record.msg).startswith(UVICORN_WEBSOCKET):
            return
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(exception=record.exc_info).bind(logger=record.name).log(
            level, "{}", _message(record)
        )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} (its arguments do not match)"


def _add_request(record: Record) -> None:
    record["extra"].setdefault("request_id", request_id.get() or "-")


def _details(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record["extra"].items() if k not in {"request_id", "details"}}


def _human(record: Record) -> str:
    record["extra"]["details"] = _as_details(_details(record))
    record["message"] = record["message"].translate(CONTROLS)
    return HUMAN_FORMAT


def _access_as_text(line: AccessLine) -> str:
    """As `HUMAN_FORMAT` shows it."""
    time = line.time.isoformat(" ", "milliseconds")[:23]
    message = line.message.translate(CONTROLS)
    return f"{time} {line.level: <7} {line.request_id} {message}{_as_details(line.fields)}"


def _as_details(fields: Mapping[str, Any]) -> str:
    return "".join(f" {key}={_shown(value)}" for key, value in fields.items()).translate(CONTROLS)


def _shown(value: object) -> str:
    """Text with spaces is quoted: where it ends can be seen."""
    if isinstance(value, str) and (" " in value or '"' in value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _as_json(record: Record) -> str:
    line: dict[str, Any] = _details(record) | {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        "request_id": record["extra"].get("request_id"),
        "process": record["process"].id,
    }
    error = record["exception"]
    if error is not None:
        line["exception"] = "".join(_traceback(error))
    return _dumped(line)


def _access_as_json(line: AccessLine) -> str:
    """With the fields that `_as_json` writes."""
    return _dumped(
        dict(line.fields)
        | {
            "time": line.time.isoformat(),
            "level": line.level,
            "message": line.message,
            "request_id": line.request_id,
            "process": os.getpid(),
        }
    )


def _dumped(line: dict[str, Any]) -> str:
    try:
        text = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        return text.translate(JSON_CONTROLS)
    except (TypeError, ValueError):  # a lone surrogate or a huge number
        return json.dumps(line, default=repr, skipkeys=True)


def _traceback(error: Any) -> list[str]:
    return traceback.format_exception(error.type, error.value, error.traceback)
