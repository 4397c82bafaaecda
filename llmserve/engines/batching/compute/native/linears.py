"""Linear layers on packed weights, in place of torch's: for models that the native decoder does not
support, whose other parts run transformers' own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from llmserve.engines.batching.compute.native.kernels import Handle, Kernels, Linear
from llmserve.engines.batching.compute.native.structure import has_hook
from llmserve.engines.weights.agreement import agree, probe
from llmserve.engines.weights.packed import computes_plainly

PROBE_TOKENS: Final = 8
MAX_TRIES: Final = 4
"""Each but the last may find a kind of layer whose weight is read by others."""

Site = tuple[nn.Module, str]
"""A module, and the name of one of its layers."""
Kind = tuple[type[nn.Module], str]
"""The same of all modules of a class."""


@torch.inference_mode()
def pack_linears(model: Any, kernels: Kernels) -> int | str:
    """Replace a bfloat16 model's linear layers; returns how many, or why all stay as they are.

    A weight that is tied to the token table stays with torch, which reads that by rows, and so do
    layers of a kind whose weight is read by the model's own code.
    """
    sites = list(_sites(model))
    for _ in range(MAX_TRIES):
        reason, read = _try_replaced(model, sites)
        if not read:
            break
        sites = [site for site in sites if _kind(site) not in read]
    if reason is not None:
        return reason
    workspace = kernels.linear_workspace()
    for parent, name in sites:
        getattr(parent, name).pack(kernels, workspace)
    return len(sites)


def _kind(site: Site) -> Kind:
    parent, name = site
    return type(parent), name


def _try_replaced(model: Any, sites: Sequence[Site]) -> tuple[str | None, set[Kind]]:
    """Put a `PackedLinear`, not packed yet, at each place; or undo that and return why, if the
    model's answers change, and the kinds of layers whose weights were read."""
    token_ids = probe(model, PROBE_TOKENS)
    expected = model(input_ids=token_ids, use_cache=False).logits[0]
    originals = [getattr(parent, name) for parent, name in sites]
    for (parent, name), layer in zip(sites, originals, strict=True):
        setattr(parent, name, PackedLinear(layer))
    try:
        actual = model(input_ids=token_ids, use_cache=False).logits[0]
    except (MemoryError, torch.OutOfMemoryError):
        raise
    # The model's own code may look for anything in a layer.
    except Exception as error:
        reason = f"its linear layers cannot be replaced ({type(error).__name__}: {error})"
    else:
        if agree(expected.float(), actual.float(), model.dtype):
            return None, set()
        reason = "its answers change when its linear layers are replaced"
    read = {_kind((parent, name)) for parent, name in sites if getattr(parent, name).was_read}
    for (parent, name), layer in zip(sites, originals, strict=True):
        setattr(parent, name, layer)
    return reason, read


class PackedLinear(nn.Module):
    """y = x·Wᵀ + b in bfloat16.

    Until `pack` it computes by torch, with a weight that only it can read: a model that reads the
    weights of its layers, instead of calling the layers, fails before anything is lost, and
    `was_read` tells whose.
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
        self._packed: tuple[Linear, torch.Tensor] | None = None
        self.was_read = False

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            self.was_read = True
        return super().__getattr__(name)

    def pack(self, kernels: Kernels, workspace: Handle) -> None:
        """Compute by the kernels from now on, in the memory that a model's layers share; releases
        the original weight."""
        assert self._weight is not None, "a layer is packed once"
        packed = kernels.allocate(kernels.packed_numbers(self.out_features, self.in_features))
        kernels.pack(self._weight, packed)
        if self._bias is not None:
            self._bias = self._bias.float().contiguous()
        bias = None if self._bias is None else self._bias.data_ptr()
        layer = Linear(self.in_features, self.out_features, packed.data_ptr(), bias)
        self._kernels, self._workspace, self._uses_tiles = kernels, workspace, kernels.has_tiles()
        self._packed = (layer, packed)
        self._weight = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features)."""
        if self._packed is None:
            assert self._weight is not None
            return linear(x, self._weight, self._bias)
        layer, _ = self._packed
        rows = x.reshape(-1, self.in_features).contiguous()
        out = torch.empty(len(rows), self.out_features, dtype=torch.bfloat16)
        self._kernels.linear(self._workspace, layer, rows, out, tiles=self._uses_tiles)
        return out.view(*x.shape[:-1], self.out_features)


def _sites(model: nn.Module) -> Iterator[Site]:
    """Layers that can be packed."""
    holders = Counter(
        parameter.data_ptr()
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
    )
    found: set[nn.Module] = set()
    for parent in model.modules():
        for name, layer in parent.named_children():
            # Not subclasses, which may do more; nor a layer with two parents twice.
            if type(layer) not in (nn.Linear, Conv1D) or layer in found or has_hook(layer):
                continue
            if not computes_plainly(layer):
                continue
            (weight, *_) = layer.parameters()
            is_ours = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
            if is_ours and holders[weight.data_ptr()] == 1:
                found.add(layer)
                yield parent, name
