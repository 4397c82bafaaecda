"""Whether tensors are packed, and what they hold and take: a packed one may look like a plain one
of the type that it computes with."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from loguru import logger
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_subclass(tensor: torch.Tensor) -> bool:
    """Whether others than its own type's numbers lie in its memory."""
    return is_traceable_wrapper_subclass(tensor)


def computes_plainly(module: nn.Module) -> bool:
    """Whether a module computes as its class says, with weights of its own that are plain."""
    own = module.parameters(recurse=False)
    return "forward" not in vars(module) and not any(map(is_subclass, own))


def num_bytes(model: nn.Module, *, is_packed: bool) -> int:
    """What a model's weights take; packed ones may be buffers, and have scales."""
    if not is_packed:
        return sum(p.numel() * p.element_size() for p in model.parameters())
    tensors = itertools.chain(model.parameters(), model.buffers())
    return sum(part.numel() * part.element_size() for tensor in tensors for part in _parts(tensor))


def num_parameters(model: Any, *, is_packed: bool) -> int:
    """How many numbers the weights stand for: those of the same model without packing."""
    if not is_packed:
        return sum(parameter.numel() for parameter in model.parameters())
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    try:
        with torch.device("meta"):
            twin = type(model)(config)
            twin.tie_weights()
    # transformers and custom code raise whatever they like.
    except Exception as error:
        logger.warning("its parameters are counted as they are packed: {}", error)
        twin = model
    return sum(parameter.numel() for parameter in twin.parameters())


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors that a tensor consists of, its scales included."""
    if is_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]  # a subclass's own
        for name in names:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    scales = getattr(getattr(tensor, "quant_state", None), "absmax", None)  # bitsandbytes'
    if scales is not None:
        yield scales
