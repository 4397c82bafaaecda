"""The numbers of one process, in a file that all workers of the box read.

In the layout of prometheus_client's `MmapedDict`, by which it is read; in native byte order:

    0      4      8       12                                  value    timestamp
    | used | -    | length | key, padded to 4 below 8·n with ' ' | 8    | 8    |  next entry …

Beyond that class: its room on the disk is taken before it is mapped, it can be had again when its
file was removed, and where there is no file the numbers are kept in memory until there is one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmserve.observability.mapped_file import map_file

FIRST_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 8
ALIGNMENT: Final = 8
USED: Final = struct.Struct("i")
VALUE: Final = struct.Struct("dd")
"""The value and its timestamp. Assigned as a slice: `pack_into` would show a 0 in between."""


class SeriesFile:
    """Owned by whoever holds the lock of its `SharedValues`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._used = HEADER_BYTES
        self._descriptor: int | None = None
        self._memory = mmap.mmap(-1, FIRST_BYTES)
        self._tell_used()

    def get(self, key: str) -> float:
        """The number of a key; 0 for a new one."""
        place = self._place(key)  # first: it may change the memory
        value: float
        value, _ = VALUE.unpack_from(self._memory, place)
        return value

    def set(self, key: str, value: float, timestamp: float) -> None:
        """The number of a key is this from now on."""
        place = self._place(key)
        self._memory[place : place + VALUE.size] = VALUE.pack(value, timestamp)

    def items(self) -> Iterator[tuple[str, float]]:
        """All numbers."""
        return ((key, self.get(key)) for key in self._places)

    @property
    def is_published(self) -> bool:
        """Whether others find these numbers where they look for them."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def publish(self) -> None:
        """Put the numbers into their file; a file that was removed is made anew.

        Raises:
            OSError: there is no room for it, or no directory.
        """
        if self.is_published:
            return
        fresh = self._path.with_name(f"{self._path.name}.fresh")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            memory = map_file(descriptor, len(self._memory))
            memory[: self._used] = self._memory[: self._used]
            fresh.replace(self._path)  # a reader finds all of it or nothing
        except OSError:
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
        self._change_memory(memory, descriptor)

    def start_anew(self, path: Path) -> None:
        """All numbers are 0, in another file: this process was forked from the one that counted."""
        memory = mmap.mmap(-1, len(self._memory))
        memory[: self._used] = self._memory[: self._used]
        self._path = path
        self._change_memory(memory, None)
        for key in self._places:
            self.set(key, 0.0, 0.0)

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        return self._add(key) if place is None else place

    def _add(self, key: str) -> int:
        encoded = key.encode()
        padding = ALIGNMENT - (len(encoded) + USED.size) % ALIGNMENT
        entry = USED.pack(len(encoded)) + encoded + b" " * padding + VALUE.pack(0.0, 0.0)
        while self._used + len(entry) > len(self._memory):
            self._grow()
        self._memory[self._used : self._used + len(entry)] = entry
        self._used += len(entry)
        self._tell_used()
        self._places[key] = place = self._used - VALUE.size
        return place

    def _grow(self) -> None:
        num_bytes = 2 * len(self._memory)
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._change_memory(map_file(self._descriptor, num_bytes), self._descriptor)
                return
        # There is no room: others see the old numbers until there is.
        memory = mmap.mmap(-1, num_bytes)
        memory[: self._used] = self._memory[: self._used]
        self._change_memory(memory, None)

    def _change_memory(self, memory: mmap.mmap, descriptor: int | None) -> None:
        self._memory.close()
        self._memory = memory
        if self._descriptor is not None and self._descriptor != descriptor:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _tell_used(self) -> None:
        self._memory[: USED.size] = USED.pack(self._used)
