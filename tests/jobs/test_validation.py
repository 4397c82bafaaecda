"""The check of a file, line by line."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from llmserve.jobs import validation
from llmserve.jobs.line import InputLine
from llmserve.jobs.validation import Checked, Wanted, check_lines

WANTED = Wanted("/v1/completions", max_lines=5, max_body_bytes=1000)


def line(custom_id: object = "a", **changes: Any) -> dict[str, Any]:
    known = {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": {}}
    return known | changes


def checked(*lines: object) -> Checked:
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    return check_lines(io.BytesIO(b"\n".join(texts)), WANTED)


def only_error(*lines: object) -> tuple[str, int | None, str | None]:
    found = checked(*lines)
    [error] = found.errors
    return error.code, error.line, error.param


def test_lines_are_found_by_number_and_offset_and_blank_ones_are_skipped() -> None:
    first, second = (json.dumps(line(name)).encode() for name in "aü")
    text = first + b"\r\n\n   \n" + second
    found = check_lines(io.BytesIO(text), WANTED)
    assert found.errors == []
    assert found.lines == [
        InputLine(1, 0, len(first) + 2, "a"),
        InputLine(4, len(text) - len(second), len(second), "ü"),
    ]
    last = found.lines[1]
    assert json.loads(text[last.offset : last.offset + last.size])["custom_id"] == "ü"


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        ([], "invalid_json_line", None),
        (line(7), "invalid_custom_id", "custom_id"),
        (line(""), "invalid_custom_id", "custom_id"),
        (line("x" * 513), "invalid_custom_id", "custom_id"),
        (line("b", method="GET"), "invalid_method", "method"),
        (line("b", url="/v1/chat/completions"), "invalid_url", "url"),
        (line("b", body=None), "invalid_body", "body"),
        (line("b", body="text"), "invalid_body", "body"),
        (line("b", priority=1), "unknown_field", "priority"),
        (line("a"), "duplicate_custom_id", "custom_id"),
    ],
)
def test_each_fault_is_told_with_its_line(wrong: object, code: str, param: str | None) -> None:
    assert only_error(line("a"), wrong, line("c")) == (code, 2, param)


def test_every_fault_is_told_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_ERRORS", 3)
    found = checked(*[b"{"] * 5)
    assert [error.line for error in found.errors] == [1, 2, 3]


def test_a_file_without_lines_is_refused() -> None:
    assert only_error() == ("empty_file", None, None)
    assert only_error(b"\n\n") == ("empty_file", None, None)


def test_too_many_lines_are_refused() -> None:
    assert checked(*[line(str(n)) for n in range(5)]).errors == []
    assert only_error(*[line(str(n)) for n in range(6)]) == ("too_many_lines", None, None)


def test_a_line_that_is_too_long_is_not_read_to_its_end() -> None:
    class Endless(io.RawIOBase):
        was_read = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size < 10_000
            self.was_read += size
            return b"x" * size

    file = Endless()
    found = check_lines(file, WANTED)  # type: ignore[arg-type]  # it reads lines alone
    assert [error.code for error in found.errors] == ["line_too_long"]
    assert file.was_read < 10_000
