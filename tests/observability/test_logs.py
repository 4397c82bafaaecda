"""Logs: what must not be in them, then what must."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from loguru import logger

from llmserve.observability.access_log import log_access, write_access_lines
from llmserve.observability.context import request_id
from llmserve.observability.logs import configure_logging


@pytest.fixture
def restored() -> Iterator[None]:
    """The process's logging as it was."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logger.remove()
    write_access_lines(None, lambda line: "", 0)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(sink: io.StringIO) -> list[dict[str, Any]]:
    """Every line by itself is a JSON object."""
    return [json.loads(line) for line in sink.getvalue().splitlines()]


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
    assert 'path="{x} <red>"' in sink.getvalue()


@pytest.mark.usefixtures("restored")
def test_a_human_line_quotes_what_has_spaces() -> None:
    sink = io.StringIO()
    configure_logging("human", "INFO", sink)
    logger.bind(status=400, code="a_b", reason='no "x" here').info("asked")
    assert sink.getvalue().rstrip().endswith('status=400 code=a_b reason="no \\"x\\" here"')


@pytest.mark.usefixtures("restored")
def test_a_json_line_stays_one_line_whatever_it_says() -> None:
    sink = io.StringIO()
    configure_logging("json", "DEBUG", sink)
    said = 'two\nlines\r\u2028 "quoted" {braces} <red> %s 中文😀\x00'
    logger.info("{}", said)
    logging.getLogger("a.library").error(said)
    try:
        fail("x")
    except ValueError:
        logger.exception("it broke")
    first, second, third = (json.loads(line) for line in sink.getvalue().strip("\n").split("\n"))
    assert first["message"] == second["message"] == said
    assert "Traceback" in third["exception"]
    assert "ValueError: told" in third["exception"]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_terminal_is_told_nothing(log_format: str) -> None:
    sink = io.StringIO()
    configure_logging(log_format, "DEBUG", sink)
    logger.bind(field="a\x1b[2J\x9b31m").info("{}", "b\r\x1b[31m\x9b31m\x7f中\u00e9")
    assert not set(sink.getvalue()) & {"\r", "\x1b", "\x9b", "\x7f"}
    assert "中\u00e9" in sink.getvalue()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "value", [2**70, float("nan"), object(), {1: {2}}, b"\xff", ValueError("x")]
)
def test_a_field_that_json_does_not_know_does_not_lose_the_line(value: object) -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    logger.bind(field=value).info("said")
    assert [line["message"] for line in lines(sink)] == ["said"]


@pytest.mark.usefixtures("restored")
def test_a_file_name_that_is_not_utf8_does_not_lose_the_line() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    logger.info("cannot read {}", b"caf\xe9".decode(errors="surrogateescape"))
    assert len(lines(sink)) == 1
    assert lines(sink)[0]["message"].startswith("cannot read caf")


@pytest.mark.usefixtures("restored")
def test_a_field_cannot_pass_for_the_message_or_its_level() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    logger.bind(message="forged", level="DEBUG", time="never").error("real")
    (line,) = lines(sink)
    assert (line["message"], line["level"]) == ("real", "ERROR")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_librarys_malformed_log_call_does_not_break_its_caller(log_format: str) -> None:
    configure_logging(log_format, "INFO", io.StringIO())
    logging.getLogger("a.library").warning("%d items", "many")  # what logging itself forgives


@pytest.mark.usefixtures("restored")
def test_the_standard_librarys_logs_come_with_level_name_request_and_traceback() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    library = logging.getLogger("some.library")
    token = request_id.set("r-3")
    library.debug("too quiet")
    library.log(35, "between two levels")
    try:
        fail("x")
    except ValueError:
        library.exception("library broke")
    request_id.reset(token)
    first, second = lines(sink)
    assert first["message"] == "between two levels"
    assert (second["level"], second["logger"], second["request_id"]) == (
        "ERROR",
        "some.library",
        "r-3",
    )
    assert "ValueError: told" in second["exception"]


@pytest.mark.usefixtures("restored")
def test_threads_do_not_see_each_others_request_ids() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        request_id.set(name)
        barrier.wait(timeout=10)
        logger.info(name)

    threads = [threading.Thread(target=work, args=(f"r-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(sink)) == 4
    assert all(line["request_id"] == line["message"] for line in lines(sink))


@pytest.mark.usefixtures("restored")
def test_a_websockets_address_and_headers_are_not_logged() -> None:
    sink = io.StringIO()
    configure_logging("json", "DEBUG", sink)
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" [accepted]', "1.2.3.4", "/ws?key=my-secret")
    uvicorn.debug("< Authorization: %s", "my-secret")
    assert sink.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("sink", [io.StringIO(), Terminal()], ids=["file", "terminal"])
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_requests_line_is_as_any_other(log_format: str, sink: io.StringIO) -> None:
    sink.seek(0)
    sink.truncate()
    configure_logging(log_format, "INFO", sink)
    token = request_id.set("r-4")
    fields: dict[str, Any] = {"status": 400, "reason": 'a "b"\x1b[2J', "queue_ms": 1.5}
    log_access("DEBUG", "GET /health", fields)
    log_access("INFO", "POST /v1/\x1b[31m中", fields)
    logger.bind(**fields).info("{}", "POST /v1/\x1b[31m中")
    request_id.reset(token)
    ours, logurus = sink.getvalue().splitlines()
    assert untimed(ours) == untimed(logurus)
    assert "r-4" in ours


@pytest.mark.usefixtures("restored")
def test_a_requests_time_has_the_zone_that_other_times_have() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    log_access("INFO", "GET /", {})
    logger.info("said")
    ours, logurus = (datetime.fromisoformat(line["time"]) for line in lines(sink))
    assert ours.utcoffset() == logurus.utcoffset()
    assert timedelta() <= logurus - ours < timedelta(minutes=1)


@pytest.mark.usefixtures("restored")
def test_lines_of_threads_are_never_within_one_another() -> None:
    sink = io.StringIO()
    configure_logging("json", "INFO", sink)
    works = (partial(log_access, "INFO", "x" * 500, {}), partial(logger.info, "y" * 500))

    def repeat(work: Callable[[], None]) -> None:
        for _ in range(50):
            work()

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(line["message"]) for line in lines(sink)} == {500}
    assert len(lines(sink)) == 100


def untimed(line: str) -> str:
    """The line with zeros for its time's digits."""
    return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+", "then", line)


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_line_that_cannot_be_written_fails_no_request(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(log_format, "INFO", Full())
    log_access("INFO", "GET /", {"status": 200})
    assert "No space left on device" in capsys.readouterr().err
