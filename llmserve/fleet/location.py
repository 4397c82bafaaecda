"""The default location of the run directory: where nothing cleans up while the server runs.

The temporary folder is the last resort: cleaners remove old files from it, and memory-mapped files
look old although they change all the time. State folders are left alone. `XDG_RUNTIME_DIR` is
removed when its user logs out, which servers outlive.
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
"""A directory that was made so recently is not stale: its server may be about to hold it."""


@dataclass(frozen=True, slots=True)
class _Location:
    """A folder for run directories, and the prefix of their names in it."""

    folder: Path
    prefix: str


def fresh_run_directory(environment: Mapping[str, str]) -> RunDirectory:
    """A new run directory, held by this process; those of dead servers beside it are removed.

    Raises:
        ConfigurationError: it can be made in none of the possible locations.
    """
    problems = []
    for location in _locations(environment):
        try:
            return _fresh(location)
        except OSError as error:
            problems.append(f"{location.folder}: {error.strerror or error}")
    raise ConfigurationError(
        f"a run directory cannot be made anywhere ({'; '.join(problems)}); set `run_dir`"
    )


def _locations(environment: Mapping[str, str]) -> Iterator[_Location]:
    # A home directory may be on the network, where other machines' locks may be invisible.
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    given = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # set by systemd
    if given:
        yield _Location(Path(given), f"{host}-")
    home = environment.get("HOME")
    state = environment.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    for folder in (Path(state), Path(environment.get("XDG_RUNTIME_DIR", ""))):
        if folder.is_absolute():  # the XDG specification says to ignore others
            yield _Location(folder / "llmserve", f"{host}-")
    yield _Location(Path(tempfile.gettempdir()), f"llmserve-{host}-")


def _fresh(location: _Location) -> RunDirectory:
    location.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(location)
    directory = RunDirectory(Path(tempfile.mkdtemp(prefix=location.prefix, dir=location.folder)))
    try:
        directory.keep()
    except OSError:
        directory.remove()
        raise
    return directory


def _remove_stale(location: _Location) -> None:
    """Remove the directories that no process holds, as their servers and workers are dead."""
    for path in location.folder.glob(f"{location.prefix}*"):
        held = HeldFile()
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime < YOUNG_SECONDS:
                continue
            held.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if held.user == os.geteuid() and held.lock(fcntl.LOCK_EX):
                shutil.rmtree(path, ignore_errors=True)
                logger.info("{} was removed: its server is dead", path)
        held.close()
