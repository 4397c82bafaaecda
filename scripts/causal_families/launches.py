"""How many kernels decode launches in a layer, counted on the meta device, where nothing runs."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, AutoModelForCausalLM, PretrainedConfig

META: Final = torch.device("meta")
ATTENTION: Final = "one-launch"


class Launches(TorchDispatchMode):
    """Counts what computes something; a view does not, nor memory that is only allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if not func.is_view and func.overloadpacket not in (
            torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten._unsafe_view,
            torch.ops.aten.new_empty, torch.ops.aten.lift_fresh,
        ):  # fmt: skip
            self.count += 1
        return func(*args, **kwargs)


@torch.inference_mode()
def launches_per_layer(config: PretrainedConfig) -> float | None:
    """Of a token decoded by the model's own code and cache, with attention as one launch; the
    average of its layers. `None` where its code wants to know values, which are not there."""
    AttentionInterface.register(ATTENTION, _attend)
    try:
        with META:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        model.set_attn_implementation(ATTENTION)
        told = model(input_ids=_zeros(4), position_ids=_zeros(4), use_cache=True)
        cache = told.past_key_values
        with Launches() as launches:
            counted = _counted(model, launches)
            model(
                input_ids=_zeros(1), position_ids=_zeros(1), past_key_values=cache, use_cache=True
            )
    # Code of models raises whatever it likes without values.
    except Exception:
        return None
    return sum(counted) / len(counted) if counted else None


def _zeros(length: int) -> torch.Tensor:
    return torch.zeros((1, length), dtype=torch.int64, device=META)


def _counted(model: nn.Module, launches: Launches) -> list[int]:
    """Grows by each layer's launches when it was computed."""
    counts: list[int] = []
    begun: list[int] = []

    def begin(*_: Any) -> None:
        begun.append(launches.count)

    def end(*_: Any) -> None:
        counts.append(launches.count - begun.pop())

    config = model.config.get_text_config(decoder=True)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            for layer in module:
                layer.register_forward_pre_hook(begin)
                layer.register_forward_hook(end)
            break
    return counts


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    shape = (query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    return torch.empty(shape, dtype=query.dtype, device=query.device) + 1, None
