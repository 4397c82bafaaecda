"""The file of keys: read by every worker, written by `llmserve keys`. Knows no HTTP.

    {"keys": [{"id": "3f9c01ab", "name": "team-a", "hash": "...", "scopes": ["generate"],
               "models": null, "requests_per_minute": 60, "tokens_per_minute": null,
               "concurrency": 4, "priority": 1, "background": false,
               "created_at": "2026-01-31T12:00:00Z", "expires_at": null, "revoked_at": null}]}

A reader always finds a complete file: a writer makes a new one beside it and renames it into place.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from llmserve.admission.key_record import KeyRecord, KeyTable
from llmserve.errors import ConfigurationError
from llmserve.flock import wait_for_lock

LOCK_SECONDS: Final = 10.0
KEPT_MODE: Final = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP
"""The part of the file's mode that is kept when it is rewritten: its owner's rights, and reading by
its group, through which a server under another user may read it."""

Stamp = tuple[int, int, int, int]
"""What changes with the file: time of modification, of status change, size, inode."""


class KeyFile:
    """One key file, whether it exists or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp | None:
        """Differs from an earlier one if the file may have changed; `None` if it is not there."""
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino

    def is_readable_by_others(self) -> bool:
        """Whether any user of this machine may read it."""
        try:
            return bool(self.path.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False

    def read(self) -> tuple[KeyRecord, ...]:
        """Every key, revoked ones included.

        Raises:
            ConfigurationError: no such file, or a mistake in it; names file, key and field.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigurationError(
                f"key file {self.path} does not exist; make it with "
                f"`llmserve keys create NAME --file {self.path}`"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"key file {self.path} cannot be read: {error}") from None
        return self._parse(text)

    @contextlib.contextmanager
    def edit(self) -> Iterator[list[KeyRecord]]:
        """All keys (none if there is no file yet), to be changed; written back at the end.

        Other writers are locked out meanwhile. An exception inside leaves the file unchanged.

        Raises:
            ConfigurationError: the file cannot be read or written, or would not be valid.
        """
        with self._locked():
            records = list(self.read()) if self.path.exists() else []
            yield records
            self._check_unique(records)
            self._write(records)

    def _parse(self, text: str) -> tuple[KeyRecord, ...]:
        try:
            records = KeyTable.model_validate_json(text).keys
        except ValidationError as error:
            # Without the input: someone may have written a key where its hash belongs.
            found = error.errors(include_url=False, include_input=False, include_context=False)
            problems = "; ".join(_problem(problem, text) for problem in found)
            raise ConfigurationError(f"key file {self.path}: {problems}") from None
        self._check_unique(records)
        return records

    def _check_unique(self, records: Sequence[KeyRecord]) -> None:
        """Check that ids are unique, and so are the names of keys that are not revoked."""
        ids = Counter(record.id for record in records)
        names = Counter(record.name for record in records if record.revoked_at is None)
        for kind, counts in (("id", ids), ("name", names)):
            twice = [value for value, count in counts.items() if count > 1]
            if twice:
                raise ConfigurationError(
                    f"key file {self.path}: two keys have the {kind} {twice[0]!r}; "
                    "revoke or rename one"
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclusive among writers. The folder is locked, as the file itself is replaced."""
        folder = self.path.resolve().parent
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigurationError(f"key file {self.path}: {error}") from None
        try:
            _wait_for_lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)

    def _write(self, records: Sequence[KeyRecord]) -> None:
        table = KeyTable(keys=tuple(records))
        target = self.path.resolve()  # a symbolic link stays one
        try:
            _replace(target, table.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise ConfigurationError(f"key file {self.path} cannot be written: {error}") from None


def _problem(problem: Any, text: str) -> str:
    """`key 3f9c01ab, field priority: what is wrong`."""
    place = list(problem["loc"])
    where = []
    if len(place) > 1 and place[0] == "keys":
        where.append(f"key {_name_of(text, place[1])}")
        place = place[2:]
    if place:
        where.append(f"field {'.'.join(str(part) for part in place)}")
    message = str(problem["msg"]).removeprefix("Value error, ")
    return ": ".join(filter(None, (", ".join(where), message)))


def _name_of(text: str, number: int) -> str:
    """The id of a key whose record is wrong, or its place in the file."""
    record = json.loads(text)["keys"][number]
    key_id = record.get("id") if isinstance(record, dict) else None
    return repr(key_id) if isinstance(key_id, str) else f"number {number + 1}"


def _wait_for_lock(descriptor: int, path: Path) -> None:
    try:
        wait_for_lock(descriptor, LOCK_SECONDS)
    except TimeoutError:
        raise ConfigurationError(
            f"another process has been writing {path} for {LOCK_SECONDS:.0f} seconds; try again"
        ) from None


def _replace(target: Path, text: str) -> None:
    """Write a new file, synced to disk, and rename it over the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if target.exists():
                _keep_owner(file.fileno(), target.stat())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _keep_owner(descriptor: int, old: os.stat_result) -> None:
    """Keep the file readable for its readers: for the server, when root rewrites it.

    Raises:
        PermissionError: the file is another user's, who has to write it.
    """
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & KEPT_MODE)
