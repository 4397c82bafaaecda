"""A command of an operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from llmserve.domain import AdapterSource


class Kind(StrEnum):
    """What to do."""

    STATUS = "status"
    LOAD = "load"
    UNLOAD = "unload"
    RELOAD = "reload"
    WARM = "warm"
    DRAIN = "drain"
    UNDRAIN = "undrain"


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator wants done, to which model, and the options of that kind of command.

    Attributes:
        prompts: for `warm`: texts to run for a few tokens.
        prefixes: for `warm`: texts whose KV cache is kept for requests that begin with them.
        system_prompts: for `warm`: the same, for conversations with this system message.
        timeout_seconds: for `unload`: how long to wait for open streams.
        upstream: for `drain` and `undrain`: which of the model's.
        adapter: for `load`: an adapter from elsewhere, to be served as `model`, which is
            `base:adapter`.
    """

    kind: Kind
    model: str | None = None
    prompts: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    system_prompts: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    upstream: str | None = None
    adapter: AdapterSource | None = None

    def to_wire(self) -> dict[str, Any]:
        """The command as JSON for the control socket."""
        return asdict(self)

    @classmethod
    def from_wire(cls, fields: dict[str, Any]) -> Self:
        """The command that `to_wire` wrote."""
        adapter = fields.get("adapter")
        return cls(
            kind=Kind(fields["kind"]),
            model=fields["model"],
            prompts=tuple(fields["prompts"]),
            prefixes=tuple(fields["prefixes"]),
            system_prompts=tuple(fields["system_prompts"]),
            timeout_seconds=fields["timeout_seconds"],
            upstream=fields.get("upstream"),  # a worker of an earlier version knows none
            adapter=None if adapter is None else adapter_source(adapter),
        )


def adapter_source(fields: dict[str, Any]) -> AdapterSource:
    """From its fields as JSON."""
    return AdapterSource(**fields | {"aliases": tuple(fields["aliases"])})
