"""API keys: who presents this credential? Knows no HTTP; a transport passes the credential.

| configured              | no credential | an unknown one | a known key                     |
|-------------------------|---------------|----------------|---------------------------------|
| nothing                 | anonymous     | anonymous      |                                 |
| only admin keys         | anonymous     | anonymous      | its caller                      |
| API keys, or a key file | 401           | 401            | its caller, or 401 if not valid |

Anonymous callers may generate. With only admin keys an unknown credential is not an error:
OpenAI's clients always send some key.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from loguru import logger

from llmserve.admission.credential import digest, public_id
from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord, KeyState
from llmserve.domain import Caller, Scope
from llmserve.errors import ConfigurationError, Unauthorized

LOOK_SECONDS: Final = 1.0
"""The key file is looked at no more often than this."""

HANDLE_BYTES: Final = 8
NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A known key, ready to be compared."""

    digest: bytes
    caller: Caller
    record: KeyRecord | None = None


class KeyRing:
    """The keys that the server accepts; with none configured everyone is let in.

    Owned by the event loop's thread. The key file is read again after a change, which is checked
    for at most once a second; a file that cannot be read leaves the keys as they were. `on_read`
    is called with the records each time the file was read.

    Raises:
        ConfigurationError: there is no such key file, or a mistake in it.
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        admin_keys: Iterable[str] = (),
        key_file: KeyFile | None = None,
        clock: Callable[[], float] = time.time,
        on_read: Callable[[Sequence[KeyRecord]], None] = lambda records: None,
    ) -> None:
        self._clock = clock
        self._on_read = on_read
        # Looked up by part of their digest, so that timing does not depend on a key's position.
        self._fixed: dict[bytes, _Entry] = {}
        self._has_fixed_admin = self._add_fixed("admin", admin_keys, frozenset(Scope))
        has_keys = self._add_fixed("key", keys, frozenset({Scope.GENERATE}))
        self._is_open = key_file is None and not has_keys
        self._file = key_file
        self._filed: dict[str, _Entry] = {}
        if key_file is not None:
            self._looked_at = clock()
            self._stamp = key_file.stamp()
            self._load(key_file)

    @property
    def has_admin_keys(self) -> bool:
        """Whether an admin key was ever issued: revoking the last one must not open access."""
        self._look_at_file()
        return self._has_fixed_admin or any(
            Scope.ADMIN in entry.caller.scopes for entry in self._filed.values()
        )

    def identify(self, credential: str | None) -> Caller:
        """Who presents this credential; compared in constant time.

        Cheap enough to be called for every request on a persistent connection.

        Raises:
            Unauthorized: a valid key is required and this is none, or no longer.
        """
        self._look_at_file()
        entry = self._find(credential) if credential is not None else None
        if entry is not None:
            _check_valid(entry.record, self._clock())
            return entry.caller
        if self._is_open:
            return Caller()
        if credential is None:
            raise Unauthorized("no API key; send it as `Authorization: Bearer YOUR_KEY`")
        raise Unauthorized("this API key is not valid; check it or ask the operator for one")

    def named(self, name: str) -> Caller:
        """The caller of this name, for what is done when they have left.

        Raises:
            Unauthorized: there is no such key, or no longer.
        """
        self._look_at_file()
        for entry in (*self._fixed.values(), *self._filed.values()):
            if entry.caller.name == name and _is_valid(entry.record, self._clock()):
                return entry.caller
        if self._is_open and name == Caller().name:
            return Caller()
        raise Unauthorized(f"the key {name!r} with which this was begun is no longer valid")

    def _find(self, credential: str) -> _Entry | None:
        presented = digest(credential)
        candidates = (
            self._fixed.get(presented[:HANDLE_BYTES]),
            self._filed.get(public_id(credential) or ""),
        )
        found = None
        for entry in candidates:
            # Always compared, so that timing does not reveal whether an id exists.
            known = entry.digest if entry is not None else NO_DIGEST
            if hmac.compare_digest(presented, known):
                found = found or entry
        return found

    def _add_fixed(self, word: str, keys: Iterable[str], scopes: frozenset[Scope]) -> bool:
        """Add keys of the settings, named by their position; returns whether there were any."""
        number = 0
        for number, key in enumerate(keys, start=1):
            hashed = digest(key)
            entry = _Entry(hashed, Caller(name=f"{word}-{number}", scopes=scopes))
            self._fixed.setdefault(hashed[:HANDLE_BYTES], entry)
        return number > 0

    def _look_at_file(self) -> None:
        if self._file is None:
            return
        now = self._clock()
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._load(self._file)
        except ConfigurationError as error:
            logger.error("{}; the keys that were read before stay in force", error.message)

    def _load(self, file: KeyFile) -> None:
        records = file.read()
        self._filed = {r.id: _Entry(bytes.fromhex(r.hash), r.caller(), r) for r in records}
        logger.info("{} keys read from {}", len(records), file.path)
        if file.is_readable_by_others():
            logger.warning(
                "key file {0} is readable by every user of this machine; `chmod o-rwx {0}`",
                file.path,
            )
        self._on_read(records)


def _is_valid(record: KeyRecord | None, now: float) -> bool:
    return record is None or record.state(now) is KeyState.ACTIVE


def _check_valid(record: KeyRecord | None, now: float) -> None:
    if record is None:
        return
    state = record.state(now)
    if state is KeyState.REVOKED:
        raise Unauthorized("this API key was revoked; ask the operator for a new one")
    if state is KeyState.EXPIRED:
        raise Unauthorized(
            f"this API key expired on {record.expires_on}; ask the operator for a new one"
        )
