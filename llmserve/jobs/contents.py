"""What files contain, in a folder. Files are written and read in parts, never whole in memory.

A file is written under another name, synced and renamed: whoever opens it finds all of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from llmserve.errors import ConfigurationError

FILES: Final = "files"
PARTIAL: Final = ".partial"
ID: Final = re.compile(r"file-[0-9a-f]{32}")
FORGOTTEN_SECONDS: Final = 86_400.0
"""A file that is being written for so long has lost its writer."""


class Contents:
    """Used from any thread; it blocks. Several boxes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FILES

    def path(self, file_id: str) -> Path:
        """Where it is or will be; the id is one of ours."""
        if ID.fullmatch(file_id) is None:
            raise ValueError(f"{file_id!r} is not a file's id")
        return self._folder / file_id

    @contextmanager
    def writing(self, file_id: str) -> Iterator[BinaryIO]:
        """The file, which is there once the context is left without an error.

        Raises:
            OSError: it cannot be written; nothing is left.
        """
        target = self.path(file_id)
        # Two may write the same output, if the first was paused: each has a name of its own.
        partial = target.with_name(f"{file_id}.{os.getpid()}.{time.monotonic_ns()}{PARTIAL}")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            self._sync_folder()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def read(self, file_id: str, offset: int, size: int) -> bytes:
        """A part of it.

        Raises:
            OSError: it cannot be read, or is not there.
        """
        with self.path(file_id).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def delete(self, file_id: str) -> None:
        """Doing it twice is harmless."""
        self.path(file_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that ended left behind."""
        for path in self._folder.glob(f"*{PARTIAL}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                    path.unlink()

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@asynccontextmanager
async def writing(contents: Contents, file_id: str) -> AsyncIterator[BinaryIO]:
    """Like `Contents.writing`, opened and closed off the event loop; writing itself blocks."""
    manager = contents.writing(file_id)
    file = await asyncio.to_thread(manager.__enter__)
    try:
        yield file
    except BaseException:
        await asyncio.shield(asyncio.to_thread(manager.__exit__, *sys.exc_info()))
        raise
    await asyncio.to_thread(manager.__exit__, None, None, None)


def open_contents(folder: Path) -> Contents:
    """The contents in this folder, which is made if it is not there.

    Raises:
        ConfigurationError: it cannot be used.
    """
    try:
        (folder / FILES).mkdir(mode=0o700, parents=True, exist_ok=True)
        contents = Contents(folder)
        with contents.writing("file-" + "0" * 32):
            pass
        contents.delete("file-" + "0" * 32)
    except OSError as error:
        raise ConfigurationError(f"jobs_dir: {folder} cannot be used: {error}") from error
    return contents
