"""What part of a device's memory one model may take, beside those that are still to come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """Read when the model sizes its KV cache; its weights are on the device by then.

    Attributes:
        part: of what is free on the device; less than 1 where other workers use it, too.
        weights_to_come: bytes of models that this worker will load onto the device later.
        models_to_come: how many these are; what is left is shared with them evenly.
        most_bytes: bound of weights and cache together, `None` for none.
    """

    part: float = 1.0
    weights_to_come: int = 0
    models_to_come: int = 0
    most_bytes: int | None = None

    def of(self, free_bytes: int, own_weights: int) -> int:
        """Bytes for everything that the model takes beside its weights."""
        whole = int(free_bytes * self.part)
        if self.most_bytes is not None:
            whole = min(whole, self.most_bytes - own_weights)
        return max(0, whole - self.weights_to_come) // (self.models_to_come + 1)

    def __str__(self) -> str:
        terms = [f"× {self.part:.3g} (this worker's part)"]
        if self.most_bytes is not None:
            terms.append(f"at most {self.most_bytes:,} with its weights (models_memory_bytes)")
        if self.models_to_come:
            terms.append(
                f"- {self.weights_to_come:,} for the weights of models to come, shared by "
                f"{self.models_to_come + 1} models"
            )
        return ", ".join(terms)
