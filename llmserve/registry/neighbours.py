"""Which other models will be loaded onto a device where one sizes its KV cache: a model on a GPU
takes all memory that the others will not need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmserve.domain import ModelSpec
from llmserve.engines.memory_share import MemoryShare
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Owned by the event loop.

    Attributes:
        weights: bytes of a model's weights, as far as known before it is loaded.
        most_bytes: bound for all loaded models together; `None` for none.
        part: this worker's part of each device's memory.
    """

    registry: Registry
    weights: Callable[[ModelSpec], int]
    most_bytes: int | None = None
    part: float = 1.0

    def share(self, spec: ModelSpec, device: str, num_gpus: int) -> MemoryShare:
        """What `spec` may take on `device`, such as `cuda:0`, where its weights already are.

        Models on demand count as well. If there is a bound for all models, only the largest of them
        counts, because others are evicted for it.
        """
        others = [model for model in self.registry.models if model.spec.name != spec.name]
        to_come = [model for model in others if _is_to_come(model)]
        certain = _on_device([m for m in to_come if not m.is_on_demand], device, num_gpus)
        on_demand = _on_device([m for m in to_come if m.is_on_demand], device, num_gpus)
        most_bytes = None
        if self.most_bytes is not None:
            on_demand = sorted(on_demand, key=self._weights_of)[-1:]
            most_bytes = self.most_bytes - sum(model.memory_bytes for model in others)
        coming = [*certain, *on_demand]
        return MemoryShare(
            part=self.part,
            weights_to_come=sum(map(self._weights_of, coming)),
            models_to_come=len(coming),
            most_bytes=most_bytes,
            others_steps=sum(_step_bytes(model, device) for model in others),
        )

    def _weights_of(self, model: ServedModel) -> int:
        return self.weights(model.spec)


def _step_bytes(model: ServedModel, device: str) -> int:
    is_there = model.status in (ModelStatus.READY, ModelStatus.UNLOADING)
    if model.engine is None or not is_there or _first(model.engine.info.device) != device:
        return 0
    return model.engine.info.step_bytes


def _is_to_come(model: ServedModel) -> bool:
    is_waiting = model.status is ModelStatus.LOADING
    return is_waiting or (model.is_on_demand and model.status is ModelStatus.UNLOADED)


def _on_device(models: Sequence[ServedModel], device: str, num_gpus: int) -> list[ServedModel]:
    """Those that name the device, and those with `auto` that do not go to the other GPUs first, as
    each goes where most memory is free."""
    named = [m for m in models if m.spec.device == device or _first(m.spec.device) == device]
    free = [m for m in models if m.spec.device == "auto"]
    return named + free[max(0, num_gpus - 1) :]


def _first(device: str) -> str:
    return "cuda:0" if device == "cuda" else device
