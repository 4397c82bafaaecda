"""The check of an uploaded file of requests, line by line: it is never whole in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import orjson

from llmserve.jobs.line import InputLine

MOST_ERRORS: Final = 100
MAX_CUSTOM_ID: Final = 512
FIELDS: Final = ("custom_id", "method", "url", "body")
EXTRA_BYTES: Final = 4096
"""What a line may have beside its body."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What lines must be like."""

    endpoint: str
    max_lines: int
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with a line, or with the whole file where `line` is `None`. OpenAI's shape."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class Checked:
    """The lines, which count only if there is no error."""

    lines: list[InputLine] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)


def check_lines(file: BinaryIO, wanted: Wanted) -> Checked:
    """Read all lines; blank ones are skipped. It stops after `MOST_ERRORS`, and where the file is
    too long."""
    checked = Checked()
    seen: set[bytes] = set()
    for number, offset, text in _lines(file, wanted.max_body_bytes + EXTRA_BYTES):
        if len(checked.errors) >= MOST_ERRORS:
            return checked
        if len(checked.lines) == wanted.max_lines:
            checked.errors.append(
                LineError(
                    "too_many_lines",
                    f"the file has more than the {wanted.max_lines:,} lines that a batch may "
                    "have; split it",
                )
            )
            return checked
        found = _checked(number, offset, text, wanted, seen)
        if isinstance(found, InputLine):
            checked.lines.append(found)
        else:
            checked.errors.append(found)
    if not checked.lines and not checked.errors:
        checked.errors.append(LineError("empty_file", "the file has no lines"))
    return checked


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Number, offset and text of each line that is not blank; `None` for one that is too long,
    after which nothing is read."""
    number = offset = 0
    while text := file.readline(max_bytes + 1):
        number += 1
        if len(text) > max_bytes and not text.endswith(b"\n"):
            yield number, offset, None
            return
        if text.strip():
            yield number, offset, text
        offset += len(text)


def _checked(
    number: int, offset: int, text: bytes | None, wanted: Wanted, seen: set[bytes]
) -> InputLine | LineError:
    if text is None:
        return LineError(
            "line_too_long",
            f"the line is over this server's limit of {wanted.max_body_bytes:,} bytes; what "
            "follows was not checked",
            number,
        )
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return LineError("invalid_json_line", f"the line is not valid JSON: {error}", number)
    if not isinstance(line, dict):
        return LineError("invalid_json_line", "the line is not a JSON object", number)
    wrong = _wrong_field(line, wanted.endpoint)
    if wrong is not None:
        code, param, message = wrong
        return LineError(code, message, number, param)
    custom_id: str = line["custom_id"]
    digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
    if digest in seen:
        return LineError(
            "duplicate_custom_id",
            f"another line has the custom_id {custom_id!r}; each needs its own",
            number,
            "custom_id",
        )
    seen.add(digest)
    return InputLine(number, offset, len(text), custom_id)


def _wrong_field(line: Mapping[str, Any], endpoint: str) -> tuple[str, str, str] | None:
    """Code, name and message."""
    custom_id, method, url, body = (line.get(name) for name in FIELDS)
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        return (
            "invalid_custom_id", "custom_id",
            f"custom_id must be a text of 1 to {MAX_CUSTOM_ID} characters",
        )  # fmt: skip
    if method != "POST":
        return "invalid_method", "method", "method must be POST"
    if url != endpoint:
        return "invalid_url", "url", f"url must be {endpoint}, the endpoint of the batch"
    if not isinstance(body, dict):
        return "invalid_body", "body", "body must be a JSON object"
    unknown = next((name for name in line if name not in FIELDS), None)
    if unknown is not None:
        name = unknown[:100]
        return "unknown_field", name, f"{name!r} is not a field of a line; leave it out"
    return None
