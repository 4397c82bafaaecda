"""Linear layers on packed weights, in place of torch's: for models that the native decoder does not
know, whose other parts run as transformers wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from llmserve.engines.agreement import agree
from llmserve.engines.batching.compute.native.kernels import Kernels, Linear

PROBE_TOKENS: Final = 8

Place = tuple[nn.Module, str]
"""A module, and the name of one of its layers."""


@torch.inference_mode()
def pack_linears(model: Any, kernels: Kernels) -> int:
    """Replace a bfloat16 model's linear layers; returns how many, 0 where its code wants them as
    they are.

    A weight that is tied to the token table stays with torch, which reads that by rows.
    """
    places = list(_places(model))
    count = model.get_input_embeddings().num_embeddings
    token_ids = torch.arange(1, PROBE_TOKENS + 1)[None] * 7 % count
    expected = model(input_ids=token_ids, use_cache=False).logits[0]
    originals = [getattr(parent, name) for parent, name in places]
    for (parent, name), layer in zip(places, originals, strict=True):
        setattr(parent, name, PackedLinear(layer))
    try:
        actual = model(input_ids=token_ids, use_cache=False).logits[0]
        is_same = agree(expected.float(), actual.float(), model.dtype)
    # The model's own code, which may look for whatever it likes in a layer.
    except Exception:
        is_same = False
    if not is_same:
        for (parent, name), layer in zip(places, originals, strict=True):
            setattr(parent, name, layer)
        return 0
    originals.clear()
    desk = LinearDesk(kernels)
    for parent, name in places:
        getattr(parent, name).pack(desk)
    return len(places)


class PackedLinear(nn.Module):
    """y = x·Wᵀ + b in bfloat16.

    Until `pack` it computes by torch, with a weight that only it sees: a model that reads its
    layers' weights, instead of calling the layers, breaks before anything is lost.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        super().__init__()
        weight = layer.weight.detach()
        if isinstance(layer, Conv1D):
            weight = weight.T
        self.out_features: int = weight.shape[0]
        self.in_features: int = weight.shape[1]
        self._weight: torch.Tensor | None = weight
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._packed: tuple[LinearDesk, Linear, torch.Tensor] | None = None

    def pack(self, desk: LinearDesk) -> None:
        """Compute by the kernels from now on; the original weight is let go."""
        assert self._weight is not None, "a layer is packed once"
        kernels = desk.kernels
        packed = kernels.allocate(kernels.packed_numbers(self.out_features, self.in_features))
        kernels.pack(self._weight, packed)
        if self._bias is not None:
            self._bias = self._bias.float().contiguous()
        bias = None if self._bias is None else self._bias.data_ptr()
        layer = Linear(self.in_features, self.out_features, packed.data_ptr(), bias)
        self._packed = (desk, layer, packed)
        self._weight = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features)."""
        if self._packed is None:
            assert self._weight is not None
            return linear(x, self._weight, self._bias)
        desk, layer, _ = self._packed
        return desk.run(layer, x)


class LinearDesk:
    """Memory that all packed layers of a model work in, one after another, on one thread."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels
        self._uses_tiles = kernels.has_tiles()
        self._handle = kernels.create_linear_desk()

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", 0):
            self.kernels.destroy_linear_desk(handle)

    def run(self, layer: Linear, x: torch.Tensor) -> torch.Tensor:
        """(..., depth) to (..., columns)."""
        rows = x.reshape(-1, layer.depth).contiguous()
        out = torch.empty(len(rows), layer.columns, dtype=torch.bfloat16)
        self.kernels.linear(self._handle, layer, rows, out, tiles=self._uses_tiles)
        return out.view(*x.shape[:-1], layer.columns)


def _places(model: nn.Module) -> Iterator[Place]:
    """Layers that can be packed."""
    holders = Counter(
        parameter.data_ptr()
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
    )
    for parent in model.modules():
        for name, layer in parent.named_children():
            # Not what derives from them: it may do more.
            if type(layer) in (nn.Linear, Conv1D) and not layer._forward_hooks:
                (weight, *_) = layer.parameters()
                is_ours = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
                if is_ours and holders[weight.data_ptr()] == 1:
                    yield parent, name
