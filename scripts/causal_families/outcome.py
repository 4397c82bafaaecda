"""What came of trying a family."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table.

    Attributes:
        engine: which one serves it; `none` if no tiny model of it can be served.
        why: what the engine says of itself, or what went wrong.
        equality: `exact`, or where its tokens first differ from `generate`'s.
        launches: kernels that decode launches in a layer, on average.
    """

    family: str
    engine: str
    why: str
    equality: str = ""
    launches: float | None = None

    @classmethod
    def parse(cls, line: str) -> Self:
        """From JSON of `values`."""
        return cls(**json.loads(line))

    @property
    def values(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)

    @property
    def is_wrong(self) -> bool:
        """Whether it is served, and not as `generate` would."""
        return self.engine != "none" and self.equality != EXACT
