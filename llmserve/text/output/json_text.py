"""Finds where a JSON value ends, without decoding it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import regex

from llmserve.text.output.source import Source, Steps

SPACE: Final = r"[ \t\r\n]*+"
STRING: Final = r'"(?:[^"\\]|\\.)*+"'

_BEGIN: Final = regex.compile(SPACE + r"(?=[^ \t\r\n])")
_SCALAR: Final = regex.compile(r"[\w.+-]++(?=[^\w.+-])", regex.DOTALL)
_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_STRING_STOP: Final = re.compile(r'["\\]')


def json_value(source: Source, emit: Callable[[str], None]) -> Steps[bool]:
    """Pass on the text of the JSON value that comes next, as it is written; whether it is complete.

    What is no value at all is not taken. Only brackets and strings are looked at, and brackets are
    not told apart: what a model writes in error still ends where it means to end.
    """
    yield from source.match(_BEGIN)
    text, start = source.window()
    first = text[start : start + 1]
    if not first or first not in '"{[':
        scalar = yield from source.match(_SCALAR, even_cut=True)
        if scalar is None:
            return False
        emit(scalar.group())
        return not scalar.partial
    depth = 0
    in_string = is_escaped = False
    while True:
        text, start = source.window()
        i = start + is_escaped if start < len(text) else start
        is_escaped = is_escaped and start == len(text)
        is_done = False
        while i < len(text) and not is_done:
            found = (_STRING_STOP if in_string else _STRUCTURE).search(text, i)
            if found is None:
                i = len(text)
                break
            i = found.end()
            match found.group():
                case "\\":
                    is_escaped = i == len(text)
                    i = min(i + 1, len(text))
                case '"':
                    in_string = not in_string
                case "{" | "[":
                    depth += 1
                case _:
                    depth -= 1
            is_done = depth == 0 and not in_string
        if i > start:
            emit(source.take(i))
        if is_done or source.is_over:
            return is_done
        yield


def arguments_value(source: Source, emit: Callable[[str], None]) -> Steps[bool]:
    """As `json_value`, for a call's arguments: an object's text as it comes. A string is taken for
    the text of the object, and null for an object without members."""
    yield from source.match(_BEGIN)
    text, start = source.window()
    if text[start : start + 1] == "{":
        return (yield from json_value(source, emit))
    parts: list[str] = []
    is_whole = yield from json_value(source, parts.append)
    written = "".join(parts)
    value = decoded(written)
    emit(value if isinstance(value, str) else "{}" if written == "null" else written)
    return is_whole


def decoded(text: str) -> Any:
    """The value of a JSON text; `None` if it is none, or has NaN or half a surrogate pair."""
    try:
        value = json.loads(text, parse_constant=_refused)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _refused(constant: str) -> None:
    raise ValueError(constant)
