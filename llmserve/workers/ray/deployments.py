"""Which deployment serves which model, known to the ingress and to every replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from llmserve.domain import ModelSpec

TAG: Final = ":latest"
"""What Ollama's clients write behind a name."""


@dataclass(frozen=True, slots=True)
class Deployments:
    """The deployments' names, each a model's name, in the order of the settings; by which other
    names they are known; and which one gets requests that name no model."""

    names: tuple[str, ...]
    aliases: Mapping[str, str]
    default: str

    @classmethod
    def of(cls, specs: Sequence[ModelSpec], default: str | None) -> Self:
        """One deployment for each model; `default` is one of their names or aliases, or
        an adapter's."""
        aliases = {alias: spec.name for spec in specs for alias in spec.all_names}
        names = tuple(spec.name for spec in specs)
        return cls(names, aliases, aliases[default] if default is not None else names[0])

    def find(self, name: str | None) -> str | None:
        """The deployment of the model or adapter with this name, `None` if there is none; it may
        have an adapter since that is not known here. Without a name, the default one."""
        if name is None:
            return self.default
        known = self.aliases.get(name) or self.aliases.get(name.removesuffix(TAG))
        return known or self.aliases.get(name.rpartition(":")[0])
