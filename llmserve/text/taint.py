"""Strings that remember which of their characters a caller wrote. Knows no template."""

from __future__ import annotations

import re
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from functools import partial
from typing import Any, Final, Self, SupportsIndex

MARK: Final = b"\1"
NO_MARK: Final = b"\0"
CONTINUED: Final = b"\2"
"""The mark on what a caller wrote in a message that the answer continues."""

STAND_IN: Final = "\ue000{}\ue001"
STAND_INS: Final = re.compile("\ue000([0-9]+)\ue001")
"""What `traced` substitutes for marked strings: a number between private-use characters."""

VIEWS: Final = (KeysView, ValuesView, ItemsView)
CONTAINERS: Final = (list, tuple, *VIEWS)


class Tainted(str):
    """A string with a mark on each character that a caller wrote (taint tracking).

    It compares, searches and prints like any string. Slicing, concatenating, splitting, stripping
    and replacing keep the marks; every other method returns a plain string, which `traced` marks.
    """

    __slots__ = ("_marks",)
    _marks: bytes

    def __new__(cls, text: str, marks: bytes | None = None) -> Self:
        """`marks` has a mark or `NO_MARK` for each character; without it, all have `MARK`."""
        self = super().__new__(cls, text)
        self._marks = MARK * len(text) if marks is None else marks
        return self

    def __str__(self) -> str:
        return self  # not a plain copy: Jinja calls `str` on everything it writes

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: SupportsIndex | slice) -> Tainted:
        if isinstance(key, slice):
            return Tainted(super().__getitem__(key), self._marks[key])
        return Tainted(super().__getitem__(key), bytes((self._marks[key],)))

    def __add__(self, other: str) -> str:
        return concat((self, other)) if isinstance(other, str) else super().__add__(other)

    def __radd__(self, other: str) -> str:
        return concat((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> Tainted:
        return Tainted(super().__mul__(times), self._marks * times.__index__())

    __rmul__ = __mul__

    def join(self, parts: Iterable[str], /) -> str:
        pieces: list[str] = []
        for part in parts:
            pieces += (self, part) if pieces else (part,)
        return concat(pieces)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return Tainted(super().replace(old, new, count))
        return unmarked(new).join(self.split(old, count))

    def strip(self, chars: str | None = None, /) -> Tainted:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> Tainted:
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> Tainted:
        return self[: len(super().rstrip(chars))]

    def removeprefix(self, prefix: str, /) -> Tainted:
        return self[len(self) - len(super().removeprefix(prefix)) :]

    def removesuffix(self, suffix: str, /) -> Tainted:
        return self[: len(super().removesuffix(suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(super().rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines: list[str] = []
        start = 0
        whole = super().splitlines(keepends=True)
        for line, kept in zip(super().splitlines(keepends), whole, strict=True):
            lines.append(self[start : start + len(line)])
            start += len(kept)
        return lines

    def partition(self, sep: str, /) -> tuple[Tainted, Tainted, Tainted]:
        return self._three(super().partition(sep))

    def rpartition(self, sep: str, /) -> tuple[Tainted, Tainted, Tainted]:
        return self._three(super().rpartition(sep))

    def _three(self, parts: tuple[str, str, str]) -> tuple[Tainted, Tainted, Tainted]:
        first, second = len(parts[0]), len(parts[0]) + len(parts[1])
        return self[:first], self[first:second], self[second:]

    def _pieces(self, pieces: list[str], sep: str | None) -> list[str]:
        found: list[str] = []
        start = 0
        for piece in pieces:
            if sep is None:  # any run of white space was between them
                start = self.find(piece, start)
            found.append(self[start : start + len(piece)])
            start += len(piece) + len(sep or "")
        return found


def marks_of(text: str) -> bytes:
    """A mark for each character."""
    return text._marks if isinstance(text, Tainted) else NO_MARK * len(text)


def unmarked(text: str) -> Tainted:
    """The text with the marks that it has, if any, as a string whose methods keep marks."""
    return Tainted(text, marks_of(text))


def plain(text: str) -> str:
    """The text without marks."""
    return str.__str__(text)


def concat(pieces: Iterable[str]) -> str:
    """`"".join(pieces)`, with marks kept."""
    pieces = list(pieces)
    text = "".join(pieces)
    if not any(isinstance(piece, Tainted) for piece in pieces):
        return text
    return Tainted(text, b"".join(map(marks_of, pieces)))


def tainted(value: Any, mark: bytes = MARK) -> Any:
    """A copy of a JSON-like value in which every string, keys included, is a caller's."""
    return _mapped(value, lambda text: Tainted(text, mark * len(text)))


def untainted(value: Any) -> Any:
    """A copy of a JSON-like value in which every string is plain. Other objects are not copied."""
    return _mapped(value, plain)


def is_tainted(value: Any) -> bool:
    """Whether a value contains a marked string, also as an object's attribute.

    Bytes count as marked: they cannot carry marks.
    """
    if isinstance(value, str):
        return isinstance(value, Tainted)
    if isinstance(value, bytes | bytearray):
        return True
    if isinstance(value, Mapping):
        return any(is_tainted(key) or is_tainted(item) for key, item in value.items())
    if isinstance(value, CONTAINERS):
        return any(map(is_tainted, value))
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return False
    # Attributes that are objects themselves are skipped: some of them refer to everything.
    held = (item for item in attributes.values() if isinstance(item, (str, Mapping, *CONTAINERS)))
    return any(map(is_tainted, held))


def traced(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that builds a string from strings without keeping marks; mark its result.

    It is called again with a stand-in for each marked string. If that shows where they ended up,
    those places are marked; if not, because they were changed or are hidden in an object, the whole
    result is.
    """
    return traced_as(lambda text: text, function, *args, **kwargs)


def traced_as(
    written: Callable[[Tainted], str], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """As `traced`, for a function that writes a marked string as `written` says."""
    args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
    if not is_tainted((args, kwargs)):
        return function(*args, **kwargs)
    # Called without marks: inside the function only some of them would survive.
    bare = untainted((args, kwargs))
    made = function(*bare[0], **bare[1])
    if not isinstance(made, str):
        return made
    if is_tainted(bare):
        return Tainted(plain(made))
    marked: list[Tainted] = []
    stand_in = partial(_stand_in, marked)
    try:
        outline = plain(function(*_mapped(args, stand_in), **_mapped(kwargs, stand_in)))
        pieces = STAND_INS.split(outline)  # text, number, text, number, …, text
        for i in range(1, len(pieces), 2):
            pieces[i] = written(marked[int(pieces[i])])
        rebuilt = concat(pieces)
    except Exception:  # the function may fail on a stand-in in any way
        return Tainted(plain(made))
    return rebuilt if rebuilt == made else Tainted(plain(made))


def _stand_in(marked: list[Tainted], text: str) -> str:
    """What stands for a marked string, which joins the others."""
    if not isinstance(text, Tainted):
        return text
    marked.append(text)
    return STAND_IN.format(len(marked) - 1)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A copy in which every string, at every depth, is changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_mapped(item, change) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, VIEWS):  # `str` shows a view's contents
        whole = _mapped(dict(getattr(value, "mapping")), change)  # noqa: B009 - unknown to mypy
        if isinstance(value, KeysView):
            return whole.keys()
        return whole.values() if isinstance(value, ValuesView) else whole.items()
    return value
