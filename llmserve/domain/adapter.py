"""Adapters: small weights that change what one loaded model says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA adapter of a base model, which is served by the name `base:name`.

    Exactly one of `path` (a folder in PEFT's layout) and `hub_id` is set. With `is_initial` it is
    loaded with its base; otherwise the first request loads it.
    """

    name: str
    path: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    aliases: tuple[str, ...] = ()
    is_initial: bool = False

    def served_names(self, bases: Iterable[str]) -> tuple[str, ...]:
        """Every name that requests may call it by, for the names of its base."""
        return (*(f"{base}:{self.name}" for base in bases), *self.aliases)


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """Where an operator says that an adapter is: a folder or a hub id; `None` is the folder of its
    name in its base's `adapters`."""

    name: str
    source: str | None = None
    revision: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter that is loaded. `num_bytes` is what it takes of the device's memory, `modules` the
    names of those that it changes."""

    name: str
    rank: int
    num_bytes: int
    modules: tuple[str, ...]
