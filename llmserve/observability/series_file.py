"""The values of one process, in a file that all workers of the box read.

The layout is that of prometheus_client's `MmapedDict`, which reads it; in native byte order:

    0      4      8       12                                  value    timestamp
    | used | -    | length | key, padded to 4 below 8·n with ' ' | 8    | 8    |  next entry …

Unlike that class, it allocates disk space before it maps the file, restores a file that was
removed, and keeps the values in memory while there can be no file.
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
"""The value and its timestamp. Written by slice assignment: with `pack_into`, a reader could see 0
in between."""


class SeriesFile:
    """Values by key. Guarded by the lock of its `SharedValues`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._used = HEADER_BYTES
        self._descriptor: int | None = None
        self._memory = mmap.mmap(-1, FIRST_BYTES)
        self._write_used()

    def get(self, key: str) -> float:
        """The value of a key; 0 for a new one."""
        offset = self._offset(key)  # first, as it may replace the memory
        value: float
        value, _ = VALUE.unpack_from(self._memory, offset)
        return value

    def set(self, key: str, value: float, timestamp: float) -> None:
        """Set the value of a key."""
        offset = self._offset(key)
        self._memory[offset : offset + VALUE.size] = VALUE.pack(value, timestamp)

    def items(self) -> Iterator[tuple[str, float]]:
        """All keys and values."""
        return ((key, self.get(key)) for key in self._offsets)

    @property
    def is_published(self) -> bool:
        """Whether other processes can read these values at the file's path."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def publish(self) -> None:
        """Put the values into their file; a file that was removed is created again.

        Raises:
            OSError: the disk is full, or there is no directory.
        """
        if self.is_published:
            return
        fresh = self._path.with_name(f"{self._path.name}.fresh")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            memory = map_file(descriptor, len(self._memory))
            memory[: self._used] = self._memory[: self._used]
            fresh.replace(self._path)  # atomic for readers
        except OSError:
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
        self._change_memory(memory, descriptor)

    def start_anew(self, path: Path) -> None:
        """Set all values to 0, in another file: the process that counted was this one's parent."""
        memory = mmap.mmap(-1, len(self._memory))
        memory[: self._used] = self._memory[: self._used]
        self._path = path
        self._change_memory(memory, None)
        for key in self._offsets:
            self.set(key, 0.0, 0.0)

    def _offset(self, key: str) -> int:
        offset = self._offsets.get(key)
        return self._add(key) if offset is None else offset

    def _add(self, key: str) -> int:
        encoded = key.encode()
        padding = ALIGNMENT - (len(encoded) + USED.size) % ALIGNMENT
        entry = USED.pack(len(encoded)) + encoded + b" " * padding + VALUE.pack(0.0, 0.0)
        while self._used + len(entry) > len(self._memory):
            self._grow()
        self._memory[self._used : self._used + len(entry)] = entry
        self._used += len(entry)
        self._write_used()
        self._offsets[key] = offset = self._used - VALUE.size
        return offset

    def _grow(self) -> None:
        num_bytes = 2 * len(self._memory)
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._change_memory(map_file(self._descriptor, num_bytes), self._descriptor)
                return
        # The disk is full: other processes see the old values until it is not.
        memory = mmap.mmap(-1, num_bytes)
        memory[: self._used] = self._memory[: self._used]
        self._change_memory(memory, None)

    def _change_memory(self, memory: mmap.mmap, descriptor: int | None) -> None:
        self._memory.close()
        self._memory = memory
        if self._descriptor is not None and self._descriptor != descriptor:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _write_used(self) -> None:
        self._memory[: USED.size] = USED.pack(self._used)
