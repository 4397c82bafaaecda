"""How the kernels for a CPU are compiled, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Attributes:
    instructions: the name of an instruction set, or "auto".
    cache_dir: `None` for the usual place.
    """

    instructions: str = "auto"
    cache_dir: Path | None = None
