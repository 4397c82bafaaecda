"""Adapters on a model's own modules: each layer that one of them changes has a hook, which adds to
the layer's result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear

from llmserve.engines.adapters.adapter import Adapter, LinearShape, LowRank
from llmserve.engines.adapters.pace import Pause, no_pause
from llmserve.engines.adapters.segment import Segment
from llmserve.errors import InvalidRequest

OUTPUT_HEAD: Final = "adapters on the output head are not served"
WEIGHT_ALONE: Final = "the layer around it takes its weight alone, and would not see an adapter"
TAKEN_ALONE: Final = "dt_proj"
"""In the layers of Mamba's first version."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An adapter in the model's dtype, on the devices of its modules."""

    pairs: Mapping[str, LowRank]

    @property
    def num_bytes(self) -> int:
        """Of all of it."""
        return sum(pair.num_bytes for pair in self.pairs.values())


def linear_layers(model: Any) -> dict[str, LinearShape]:
    """What adapters may change: layers with a matrix, by name. It may be somewhere else already."""
    head = model.get_output_embeddings()
    shapes = {}
    for name, module in model.named_modules():
        refusal = OUTPUT_HEAD if module is head else None
        if name.rpartition(".")[2] == TAKEN_ALONE:
            refusal = WEIGHT_ALONE
        if hasattr(module, "in_features") and hasattr(module, "out_features"):
            shapes[name] = LinearShape(module.in_features, module.out_features, refusal)
        elif type(module).__name__ == "Conv1D":
            shapes[name] = LinearShape(module.nx, module.nf, refusal)
    return shapes


class HookedAdapters:
    """Attached and detached on any thread; `active` tells the thread that computes which rows have
    which adapter. Without adapters the model has no hooks. `refusal` says why it takes none."""

    def __init__(self, model: Any, active: Callable[[], Sequence[Segment]]) -> None:
        self._model = model
        self._active = active
        self.refusal: str | None = None
        self._lock = threading.Lock()
        self._attached: dict[int, Prepared] = {}
        self._hooks: dict[str, Any] = {}

    def prepare(self, adapter: Adapter, pause: Pause = no_pause) -> Prepared:
        """Copies of its own.

        Raises:
            InvalidRequest: the model takes none; says why.
        """
        if self.refusal is not None:
            raise InvalidRequest(f"this model takes no adapters: {self.refusal}")
        dtype = self._model.dtype
        pairs = {}
        for name, pair in adapter.pairs.items():
            device = _device(self._model.get_submodule(name), self._model.device)
            pairs[name] = LowRank(
                pair.down.to(device, dtype).contiguous(), pair.up.to(device, dtype).contiguous()
            )
            pause()
        return Prepared(pairs)

    def attach(self, adapter_id: int, prepared: Prepared) -> None:
        """Rows may have it from now on."""
        with self._lock:
            self._attached[adapter_id] = prepared
            for name in prepared.pairs.keys() - self._hooks.keys():
                layer = self._model.get_submodule(name)
                self._hooks[name] = layer.register_forward_hook(partial(self._add, name))

    def detach(self, adapter_id: int) -> None:
        """No row has it any more."""
        with self._lock:
            self._attached.pop(adapter_id, None)
            needed = {name for each in self._attached.values() for name in each.pairs}
            for name in self._hooks.keys() - needed:
                self._hooks.pop(name).remove()

    def _add(
        self, name: str, layer: nn.Module, arguments: tuple[Any, ...], result: torch.Tensor
    ) -> torch.Tensor | None:
        segments = self._active()
        if not segments:
            return None
        x = arguments[0]
        rows = x.reshape(-1, x.shape[-1])
        out = result.reshape(-1, result.shape[-1])
        for segment in segments:
            pair = self._attached[segment.adapter_id].pairs.get(name)
            if pair is not None:
                part = slice(segment.start, segment.stop)
                out[part] += linear(linear(rows[part], pair.down), pair.up)
        return out.view(result.shape)


def _device(layer: nn.Module, default: torch.device) -> torch.device:
    return next((parameter.device for parameter in layer.parameters()), default)
