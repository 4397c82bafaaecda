"""What part of a device's memory one model may take, besides other loaded and later models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USABLE: Final = 0.95
"""The usable part of a GPU's memory; the rest is lost to fragmentation."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A device's memory at one moment, in bytes.

    Attributes:
        total: all of the device's memory.
        free: what could be allocated, torch's cached memory included.
        own: what this process has allocated there.
    """

    total: int
    free: int
    own: int


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """Computed when the model sizes its KV cache, with its weights already on the device.

    Attributes:
        part: this worker's part of the device's memory; less than 1 if other workers use it, too.
        weights_to_come: bytes of the models that this worker will load onto the device later.
        models_to_come: how many these are; what is left is shared with them evenly.
        most_bytes: upper bound of weights and cache together; `None` for none.
        others_steps: bytes that models already on the device need temporarily for their steps.
    """

    part: float = 1.0
    weights_to_come: int = 0
    models_to_come: int = 0
    most_bytes: int | None = None
    others_steps: int = 0

    def of(self, device: Occupancy, own_weights: int) -> int:
        """Bytes for everything that the model needs besides its weights.

        Workers that share a device start at the same time, so each takes its part of the total: how
        much is free depends on which comes first.
        """
        whole = int(device.free * USABLE)
        if self.part < 1.0:
            whole = min(whole, int(device.total * USABLE * self.part) - device.own)
        whole -= self.others_steps
        if self.most_bytes is not None:
            whole = min(whole, self.most_bytes - own_weights)
        return max(0, whole - self.weights_to_come) // (self.models_to_come + 1)

    def arithmetic(self, device: Occupancy, own_weights: int) -> str:
        """How `of` arrives at its result, for the log."""
        terms = [f"{device.free:,} bytes free × {USABLE}"]
        if self.part < 1.0:
            terms.append(
                f"at most {device.total:,} × {USABLE} × {self.part:.3g} (this worker's part) - "
                f"{device.own:,} that it has allocated"
            )
        if self.others_steps:
            terms.append(f"- {self.others_steps:,} for steps of the models already there")
        if self.most_bytes is not None:
            terms.append(
                f"at most {self.most_bytes:,} (models_memory_bytes) - {own_weights:,} of weights"
            )
        if self.models_to_come:
            terms.append(
                f"- {self.weights_to_come:,} for the weights of models to come, shared by "
                f"{self.models_to_come + 1} models"
            )
        return ", ".join(terms)
