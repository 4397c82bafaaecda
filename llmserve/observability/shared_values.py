"""Stores prometheus_client's values in files, for a box with several workers.

Replaces its `MultiProcessValue`. Counting must work even if the disk fails, so nothing here raises
an OSError. Files are named after `process_identity`, so that no process ever inherits the values of
a dead one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key

from llmserve.observability.process_identity import identity
from llmserve.observability.series_file import SeriesFile
from llmserve.trouble import Trouble


class SharedValues:
    """A process's files in one directory, one per kind of series. Any thread may use it."""

    def __init__(self, directory: Path) -> None:
        self.lock = threading.Lock()
        self._directory = directory
        self._files: dict[str, SeriesFile] = {}
        self._trouble = Trouble(
            f"this process's series cannot be written to {directory.resolve()}",
            "meanwhile only its own answers to /metrics contain them",
        )
        os.register_at_fork(after_in_child=self._start_anew)

    def file(self, kind: str) -> SeriesFile:
        """The file of a kind, as in `counter` or `gauge_livesum`. The lock must be held."""
        file = self._files.get(kind)
        if file is None:
            file = self._files[kind] = SeriesFile(self._path(kind))
            with self._reporting():
                file.publish()
        return file

    def restore(self) -> None:
        """Create the files that were removed, or that could not be created before."""
        with self.lock, self._reporting():
            for file in self._files.values():
                file.publish()
            self._trouble.is_over()

    def unpublished(self) -> dict[str, dict[str, float]]:
        """The values that others cannot read: by the name of the file where they belong, by key."""
        with self.lock:
            return {
                self._path(kind).name: dict(file.items())
                for kind, file in self._files.items()
                if not file.is_published
            }

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._trouble.begins(error)

    def _start_anew(self) -> None:
        """Called in a forked process, where a thread that held the lock no longer exists."""
        self.lock = threading.Lock()
        for kind, file in self._files.items():
            file.start_anew(self._path(kind))
        self.restore()

    def _path(self, kind: str) -> Path:
        return self._directory / f"{kind}_{identity()}.db"


def share_values(directory: Path) -> SharedValues:
    """Store the values of all series created from now on there; harmless to call twice."""
    shared = _shared_values(directory)
    values.ValueClass = functools.partial(_SharedValue, shared)
    return shared


@functools.cache
def _shared_values(directory: Path) -> SharedValues:
    return SharedValues(directory)


class _SharedValue:
    """One value. prometheus_client dictates the interface and the constructor's parameters."""

    _multiprocess = True

    def __init__(
        self,
        shared: SharedValues,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._shared = shared
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        with shared.lock:
            self._file = shared.file(f"{typ}_{multiprocess_mode}" if multiprocess_mode else typ)
            self._file.get(self._key)  # creates the series, so that it is shown as 0

    def inc(self, amount: float) -> None:
        with self._shared.lock:
            self._file.set(self._key, self._file.get(self._key) + amount, 0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._shared.lock:
            self._file.set(self._key, value, timestamp or 0.0)

    def get(self) -> float:
        with self._shared.lock:
            return self._file.get(self._key)

    def set_exemplar(self, exemplar: Any) -> None:
        """Ignored: the files cannot store exemplars."""

    def get_exemplar(self) -> None:
        """None: the files cannot store exemplars."""
