"""One line of a batch: where it is in the input, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class LineKey(NamedTuple):
    """Which line: numbers begin with 1, as in an editor."""

    batch_id: str
    number: int


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line that was checked: `size` bytes from `offset` of the input file."""

    number: int
    offset: int
    size: int
    custom_id: str


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A line that a worker runs.

    Attributes:
        caller: the name of the key in whose name it runs.
        attempts: how often it was tried before, and put off.
        losses: how many workers had it before, and ended or hung.
    """

    key: LineKey
    caller: str
    input_file_id: str
    line: InputLine
    attempts: int
    losses: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a line: one line of the output file, or of the error file."""

    number: int
    is_success: bool
    content: bytes
