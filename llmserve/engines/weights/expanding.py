"""Expands the packed weights of a loaded model where transformers does not do so while it reads
them, and gives all plain weights one type, which it forgets for some methods."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from llmserve.engines.weights.packed import is_subclass


def expanded(model: Any) -> Any:
    """The model with plain weights, in its dtype."""
    if model.quantization_method == "bitsandbytes":
        return evened(model.dequantize(dtype=model.config.dtype))
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if is_subclass(parameter):
                setattr(module, name, nn.Parameter(parameter.dequantize(), requires_grad=False))
    model.hf_quantizer.remove_quantization_config(model)
    return evened(model)


def evened(model: Any) -> Any:
    """The model with its plain weights in the type that was asked for, but for those that its
    family keeps in another; packed ones stay as they are."""
    dtype = model.config.dtype
    kept = model._get_dtype_plan(dtype)
    for name, parameter in model.named_parameters():
        is_kept = any(re.search(pattern, name) for pattern in kept)
        if parameter.is_floating_point() and not is_subclass(parameter) and not is_kept:
            parameter.data = parameter.data.to(dtype)
    return model
