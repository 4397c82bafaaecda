"""Adapters of a model whose steps are computed in a loop: they come and go between two steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from llmserve.engines.adapters.adapter import Adapter, Layers
from llmserve.engines.adapters.hooks import linear_layers
from llmserve.engines.adapters.pace import Pause
from llmserve.engines.batching.compute.step_adapters import StepAdapters

EXPERTS: Final = "experts"
"""In names of layers that see only those tokens of a step that are routed to them."""
ROUTED: Final = "experts take no adapters in a batch; set engine to threaded"
LATENT: Final = "kv_b_proj"
"""A layer that makes keys and values of latents, which are cached in their place."""
ABSORBED: Final = "what makes keys of latents takes no adapters in a batch; set engine to threaded"


class LoopAdapters:
    """Implements `AdapterHost`; `between_steps` runs something on the thread that computes."""

    def __init__(
        self,
        model: Any,
        adapters: StepAdapters,
        between_steps: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        self._layers = {
            name: replace(shape, refusal=_refusal(name) or shape.refusal)
            for name, shape in linear_layers(model).items()
        }
        self._adapters = adapters
        self._between_steps = between_steps

    def layers(self) -> Layers:
        return self._layers

    def prepare(self, adapter: Adapter, pause: Pause) -> Any:
        return self._adapters.prepare(adapter, pause)

    async def attach(self, adapter_id: int, prepared: Any) -> None:
        await self._between_steps(lambda: self._adapters.attach(adapter_id, prepared))

    async def detach(self, adapter_id: int) -> None:
        await self._between_steps(lambda: self._adapters.detach(adapter_id))


def _refusal(name: str) -> str | None:
    parts = name.split(".")
    if EXPERTS in parts:
        return ROUTED
    return ABSORBED if parts[-1] == LATENT else None
