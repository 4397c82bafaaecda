"""Where a run directory lies when nobody says: where nothing cleans up while the server runs.

The temporary folder is the last resort: cleaners remove from it what looks old, and what is mapped
into memory looks old though it changes all the time. A state folder is kept. `XDG_RUNTIME_DIR` goes
when its user logs out, and servers stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.errors import ConfigurationError
from llmserve.fleet.held_file import HeldFile
from llmserve.fleet.run_directory import RunDirectory

YOUNG_SECONDS: Final = 60.0
"""A directory that was just made may be held in a moment."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder for run directories, and how their names begin there."""

    folder: Path
    prefix: str


def fresh_run_directory(environment: Mapping[str, str]) -> RunDirectory:
    """A new one, kept; what servers that are dead have left at its place is removed.

    Raises:
        ConfigurationError: no place has room for it.
    """
    problems = []
    for place in _places(environment):
        try:
            return _fresh(place)
        except OSError as error:
            problems.append(f"{place.folder}: {error.strerror or error}")
    raise ConfigurationError(
        f"there is no place for a run directory ({'; '.join(problems)}); set `run_dir`"
    )


def _places(environment: Mapping[str, str]) -> Iterator[_Place]:
    # Of a home directory on the network each machine sees all: locks may not tell of each other.
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    given = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # by systemd
    if given:
        yield _Place(Path(given), f"{host}-")
    home = environment.get("HOME")
    state = environment.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    for folder in (Path(state), Path(environment.get("XDG_RUNTIME_DIR", ""))):
        if folder.is_absolute():  # as the specification wants it
            yield _Place(folder / "llmserve", f"{host}-")
    yield _Place(Path(tempfile.gettempdir()), f"llmserve-{host}-")


def _fresh(place: _Place) -> RunDirectory:
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(place)
    directory = RunDirectory(Path(tempfile.mkdtemp(prefix=place.prefix, dir=place.folder)))
    try:
        directory.keep()
    except OSError:
        directory.remove()
        raise
    return directory


def _remove_stale(place: _Place) -> None:
    """Nobody holds a directory whose server and workers are dead."""
    for path in place.folder.glob(f"{place.prefix}*"):
        held = HeldFile()
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime < YOUNG_SECONDS:
                continue
            held.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if held.user == os.geteuid() and held.lock(fcntl.LOCK_EX):
                shutil.rmtree(path, ignore_errors=True)
                logger.info("{} is removed: its server is dead", path)
        held.close()
