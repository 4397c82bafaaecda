"""Logs: what must not be in them, then what must."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from loguru import logger

from llmserve.observability.context import request_id
from llmserve.observability.logs import configure_logging


@pytest.fixture
def restored() -> Iterator[None]:
    """The process's logging as it was."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logger.remove()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def fail(prompt: str) -> None:
    raise ValueError("told")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_traceback_shows_no_variables(log_format: str) -> None:
    sink = io.StringIO()
    configure_logging(log_format, "DEBUG", sink)
    prompt = " ".join(["my", "secret", "prompt"])  # not as one literal: source lines are shown
    try:
        fail(prompt)
    except ValueError:
        logger.exception("it broke")
    assert "told" in sink.getvalue()
    assert "secret prompt" not in sink.getvalue()


@pytest.mark.usefixtures("restored")
def test_libraries_that_log_what_they_send_are_silent() -> None:
    sink = io.StringIO()
    configure_logging("human", "DEBUG", sink)
    for name in ("sse_starlette.sse", "websockets.server", "httpx", "uvicorn.access"):
        logging.getLogger(name).info("chunk: %s", "my secret")
    assert sink.getvalue() == ""


@pytest.mark.usefixtures("restored")
def test_a_json_line_has_level_message_request_and_fields() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    token = request_id.set("r-1")
    logger.bind(status=200).info("{} done", "it is")
    request_id.reset(token)
    logging.getLogger("some.library").warning("with %s", "percent")
    logger.debug("not this one")
    first, second = (json.loads(line) for line in sink.getvalue().splitlines())
    assert (first["level"], first["message"], first["request_id"]) == ("INFO", "it is done", "r-1")
    assert first["status"] == 200
    assert (second["message"], second["request_id"]) == ("with percent", "-")


@pytest.mark.usefixtures("restored")
def test_a_human_line_carries_the_request_id_and_survives_braces() -> None:
    sink = io.StringIO()
    configure_logging("human", "INFO", sink)
    token = request_id.set("r-2")
    logger.bind(path="{x} <red>").info("{}", "{not a field} </red>")
    request_id.reset(token)
    assert "r-2" in sink.getvalue()
    assert "{not a field} </red>" in sink.getvalue()
    assert "path={x} <red>" in sink.getvalue()
