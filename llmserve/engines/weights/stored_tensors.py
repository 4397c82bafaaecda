"""What is stored in safetensors files, by their headers: the type and size of each tensor. Knows no
torch, and reads no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

FLOATS: Final = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
"""Of types that weights compute with; bytes of a number."""
MOST_BYTES: Final = 100_000_000
"""Of a header, by the format's definition."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_items(self) -> int:
        """Numbers, or what several are packed into."""
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is of a type to compute with."""
        return self.kind in FLOATS


def stored_tensors(file: Path) -> Iterator[StoredTensor]:
    """Those of a file; none if it cannot be read, which loading the model will report."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= MOST_BYTES else {}
        for name, told in header.items():
            if name != "__metadata__":
                begin, end = told["data_offsets"]
                yield StoredTensor(name, told["dtype"], tuple(told["shape"]), end - begin)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
