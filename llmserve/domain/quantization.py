"""What is known of weights that are stored, or kept, with fewer bits than they compute with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model's weights are quantised.

    Attributes:
        method: as its config names it (`fp8`, `bitsandbytes`, `gguf`, …).
        bits: of most weights as they were stored; `None` where nobody says.
        origin: whether the checkpoint is quantised, or the weights were quantised at load.
        is_expanded: whether the weights were expanded at load, and compute as if never quantised.
    """

    method: str
    bits: int | None = None
    origin: Literal["checkpoint", "load"] = "checkpoint"
    is_expanded: bool = False

    def __str__(self) -> str:
        bits = f", {self.bits} bits" if self.bits else ""
        expanded = ", expanded" if self.is_expanded else ""
        return f"{self.method}{bits}{expanded}"
