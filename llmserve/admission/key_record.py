"""One key in the key file: whose it is and what it permits, but not the key itself."""

from __future__ import annotations

import re
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from llmserve.domain import Caller, CallerLimits, Scope

RESERVED: Final = re.compile(r"anonymous|local-admin|(key|admin)-[0-9]+")
"""The server's own names for callers that are in no file."""


class KeyState(StrEnum):
    """Whether a key is valid at this moment."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _check_name(name: str) -> str:
    if RESERVED.fullmatch(name):
        raise ValueError("this name is reserved for the server's own callers; take another")
    if not name.isprintable() or any(character.isspace() for character in name):
        raise ValueError("spaces and control characters are not allowed: it is shown in logs")
    return name


Limit = Annotated[int, Field(ge=1, le=10**12)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class KeyRecord(BaseModel):
    """One element of `keys`. `hash` is the SHA-256 of the whole key, in hexadecimal."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_name)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = (Scope.GENERATE,)
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrency: Limit | None = None
    priority: Annotated[int, Field(ge=1, le=1000)] = 1
    background: bool = False
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def state(self, now: float) -> KeyState:
        """Whether the key is valid at `now`, in seconds since 1970."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        is_over = self.expires_at is not None and self.expires_at.timestamp() <= now
        return KeyState.EXPIRED if is_over else KeyState.ACTIVE

    @property
    def expires_on(self) -> str | None:
        """The day on which it expires, in UTC."""
        end = self.expires_at
        return end.astimezone(UTC).date().isoformat() if end is not None else None

    def caller(self) -> Caller:
        """The key's owner as a `Caller`."""
        return Caller(
            name=self.name,
            scopes=frozenset(self.scopes),
            models=None if self.models is None else frozenset(self.models),
            limits=CallerLimits(
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                concurrency=self.concurrency,
            ),
            priority=self.priority,
            is_background=self.background,
        )


class KeyTable(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    keys: tuple[KeyRecord, ...]
