"""Adapters: small weights that change what one loaded model says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA adapter of a base model, which is served by the name `base:name`.

    Exactly one of `path` (a folder in PEFT's layout) and `hub_id` is set.
    """

    name: str
    path: Path | None = None
    hub_id: str | None = None
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
