"""The beginning of a GGUF file: what it says of the model, and its tensors. Knows no torch.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MOST_ENTRIES: Final = 1 << 20
"""Keys or tensors; more are those of a broken file."""
MOST_BYTES: Final = 1 << 26
"""Of one text."""

_FORMATS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
                   10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip
_TEXT, _ARRAY = 8, 9


class NoHeader(Exception):
    """The file is no GGUF, or not a whole one."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Numbers and texts by their keys (`llama.block_count`), without arrays; how many numbers the
    tensors have, and how many bytes they take in the file."""

    values: dict[str, int | float | str]
    num_parameters: int
    num_bytes: int

    def number(self, key: str) -> int:
        """A number of the model's architecture, 0 where the file does not say."""
        value = self.values.get(f"{self.values.get('general.architecture')}.{key}")
        return int(value) if isinstance(value, int | float) else 0


def read_gguf_header(file: Path) -> GgufHeader:
    """
    Raises:
        NoHeader: it cannot be read; says why.
    """
    try:
        with file.open("rb") as stream:
            return _header(stream, file.stat().st_size)
    except (OSError, ValueError, struct.error) as error:
        raise NoHeader(f"{file.name} cannot be read as GGUF: {error}") from error


def _header(stream: BinaryIO, size: int) -> GgufHeader:
    if stream.read(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = _number(stream, "<I")
    if version not in VERSIONS:
        raise ValueError(f"its version is {version}, not 2 or 3")
    num_tensors, num_keys = _number(stream, "<Q"), _number(stream, "<Q")
    if max(num_tensors, num_keys) > MOST_ENTRIES:
        raise ValueError("it is broken")
    values: dict[str, int | float | str] = {}
    for _ in range(int(num_keys)):
        key = _text(stream)
        value = _value(stream, int(_number(stream, "<I")))
        if value is not None:
            values[key] = value
    count = 0
    for _ in range(int(num_tensors)):
        _text(stream)
        dimensions = int(_number(stream, "<I"))
        count += prod(int(_number(stream, "<Q")) for _ in range(min(dimensions, 8)))
        stream.seek(12, 1)  # type and offset
    return GgufHeader(values, count, size - stream.tell())


def _number(stream: BinaryIO, layout: str) -> int | float:
    found: int | float = struct.unpack(layout, stream.read(struct.calcsize(layout)))[0]
    return found


def _text(stream: BinaryIO) -> str:
    length = int(_number(stream, "<Q"))
    if length > MOST_BYTES:
        raise ValueError("it is broken")
    return stream.read(length).decode("utf-8", errors="replace")


def _value(stream: BinaryIO, kind: int) -> int | float | str | None:
    """`None` for an array, which is skipped."""
    if kind in _FORMATS:
        return _number(stream, _FORMATS[kind])
    if kind == _TEXT:
        return _text(stream)
    if kind != _ARRAY:
        raise ValueError(f"it has a value of the unknown type {kind}")
    item, count = int(_number(stream, "<I")), int(_number(stream, "<Q"))
    if item in _FORMATS:
        stream.seek(count * struct.calcsize(_FORMATS[item]), 1)
    elif item == _TEXT:
        for _ in range(count):
            stream.seek(int(_number(stream, "<Q")), 1)
    else:
        raise ValueError(f"it has an array of the unknown type {item}")
    return None
