"""torch.compile for a model on a GPU, one decoder layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch._dynamo.config as dynamo
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_left_alone: Final[Any] = torch.compiler.disable
VERSIONS: Final = 64
"""Of one decoder layer's code. Beyond torch's own limit of 8 a layer silently runs uncompiled."""


def compiled(model: Any, backend: str | Callable[..., Any] = "inductor") -> Any:
    """The same model, its decoder layers compiled when first called; norms, rotary embedding and
    activations become few kernels. Attention, which must be ours already, stays as it is.

    All layers share their code, so that it is compiled once for one token and once for any other
    number. The rest of the model is unchanged; compiled layers can be captured in CUDA graphs.
    """
    # All layers of all models share the code of their class: each kind of layer, and each further
    # model of the process, is one more version of it.
    dynamo.recompile_limit = max(dynamo.recompile_limit, VERSIONS)
    name = model.config.get_text_config(decoder=True)._attn_implementation
    attend = ALL_ATTENTION_FUNCTIONS[name]
    # It reads the step's tables: compiled code would fit one step only.
    ALL_ATTENTION_FUNCTIONS.register(name, _left_alone(attend))
    layers = set(model._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in layers:
            module.compile(dynamic=True, backend=backend)
    return model
