"""Whether a transformers model is a decoder that the kernels support, checked part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from llmserve.engines.weights.packed import computes_plainly

FAMILIES: Final = ("granite", "llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Model types whose code in transformers does nothing that `read_structure` does not check."""

STATIC_ROPES: Final = ("default", "linear", "llama3", "yarn")
"""Rope types whose angles depend on nothing but the position."""

_MODEL: Final = frozenset({"embed_tokens", "layers", "norm", "rotary_emb"})
_LAYER: Final = frozenset({"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"})
_ATTENTION: Final = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
_HEAD_NORMS: Final = frozenset({"q_norm", "k_norm"})
_MLP: Final = frozenset({"gate_proj", "up_proj", "down_proj", "act_fn"})
_SCALES: Final = ("embedding_multiplier", "residual_multiplier", "logits_scaling")


class Unknown(Exception):
    """The model has a part that the kernels do not support; the message names it."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The numbers that describe a decoder.

    Attributes:
        windows: of each layer; a token sees itself and the `window - 1` before it, `None` for all.
        rotates: of each layer, whether queries and keys are rotated.
        has_head_norms: whether queries and keys are normalized head by head.
        is_tied: whether the output head is the token table.
        embedding_scale, residual_scale, logit_scale: factors, 1 in most models.
    """

    hidden: int
    intermediate: int
    query_heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    norm_epsilon: float
    score_scale: float
    embedding_scale: float
    residual_scale: float
    logit_scale: float
    windows: tuple[int | None, ...]
    rotates: tuple[bool, ...]
    has_head_norms: bool
    is_tied: bool


def read_structure(model: Any) -> Structure:
    """Check everything before anything is changed.

    Raises:
        Unknown: the kernels cannot run this model; the message says why.
    """
    config = model.config
    _check_family(model, config)
    body = model.model
    _check_children("the model", model, frozenset({"model", "lm_head"}))
    _check_children("the decoder", body, _MODEL)
    _check_rope(config)
    _check_tensors(model)
    layers = list(body.layers)
    attention = layers[0].self_attn
    head_dim = int(attention.head_dim)
    has_head_norms = config.model_type == "qwen3"
    for number, layer in enumerate(layers):
        _check_layer(number, layer, has_head_norms)
    vocab, hidden = body.embed_tokens.weight.shape
    if model.lm_head.bias is not None:
        raise Unknown("its output head has a bias")
    if model.lm_head.weight.shape != (vocab, hidden):
        raise Unknown("its output head and token table differ in shape")
    structure = Structure(
        hidden=hidden,
        intermediate=layers[0].mlp.gate_proj.out_features,
        query_heads=attention.q_proj.out_features // head_dim,
        kv_heads=attention.k_proj.out_features // head_dim,
        head_dim=head_dim,
        vocab=vocab,
        norm_epsilon=_epsilon(body.norm),
        score_scale=float(attention.scaling),
        embedding_scale=float(getattr(config, "embedding_multiplier", 1.0)),
        residual_scale=float(getattr(config, "residual_multiplier", 1.0)),
        logit_scale=1.0 / float(getattr(config, "logits_scaling", 1.0)),
        windows=tuple(_window(config, layer.self_attn) for layer in layers),
        rotates=tuple(bool(getattr(layer.self_attn, "use_rope", True)) for layer in layers),
        has_head_norms=has_head_norms,
        is_tied=model.lm_head.weight.data_ptr() == body.embed_tokens.weight.data_ptr(),
    )
    _check_sizes(structure)
    for number, layer in enumerate(layers):
        _check_shapes(number, layer, structure)
    return structure


def has_hook(module: nn.Module) -> bool:
    """Whether other code runs before or after the module's own."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return bool(hooks) or hasattr(module, "_hf_hook")


def _check_family(model: Any, config: Any) -> None:
    family = getattr(config, "model_type", None)
    if family not in FAMILIES:
        raise Unknown(f"the native kernels do not know model type {family!r}")
    expected = f"transformers.models.{family}."
    if not type(model).__module__.startswith(expected):
        raise Unknown(f"its code is {type(model).__module__}, not transformers' own")
    if getattr(config, "hidden_act", None) != "silu":
        raise Unknown(f"its activation is {getattr(config, 'hidden_act', None)!r}, not 'silu'")
    if family != "granite":
        for name in _SCALES:
            if getattr(config, name, 1.0) != 1.0:
                raise Unknown(f"a {family} model has no {name}, but the config sets it")
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, name, None) is not None:
            raise Unknown(f"it caps logits ({name})")


def _check_children(name: str, module: Any, expected: frozenset[str]) -> None:
    found = frozenset(child for child, _ in module.named_children())
    if found != expected:
        odd = ", ".join(sorted(found ^ expected))
        raise Unknown(f"{name} does not have the usual parts ({odd})")


def _check_rope(config: Any) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind not in STATIC_ROPES:
        raise Unknown(f"its rotary embedding is of the type {kind!r}")
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise Unknown("it rotates a part of each head only")


def _check_tensors(model: Any) -> None:
    for name, tensor in model.named_parameters():
        if tensor.device.type != "cpu":
            raise Unknown(f"{name} is on {tensor.device.type}, not on the processor")
        if tensor.dtype != torch.bfloat16:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise Unknown(f"{name} is {kind}; the native kernels take bfloat16")
    for name, module in model.named_modules():
        if has_hook(module):
            raise Unknown(f"{name or 'the model'} has a hook")
        if not computes_plainly(module):
            raise Unknown(f"{name or 'the model'} is quantised; the native kernels take bfloat16")


def _check_layer(number: int, layer: Any, has_head_norms: bool) -> None:
    where = f"layer {number}"
    _check_children(where, layer, _LAYER)
    parts = _ATTENTION | (_HEAD_NORMS if has_head_norms else frozenset())
    _check_children(f"{where}'s attention", layer.self_attn, parts)
    _check_children(f"{where}'s MLP", layer.mlp, _MLP)
    for child in (*layer.self_attn.children(), *layer.mlp.children()):
        if hasattr(child, "in_features") and type(child) is not nn.Linear:
            raise Unknown(f"{where} has a {type(child).__name__} in place of a linear layer")


def _check_sizes(structure: Structure) -> None:
    for name in ("hidden", "intermediate", "head_dim"):
        size = getattr(structure, name)
        if size % 16:
            raise Unknown(f"its {name} size of {size} is no multiple of 16")
    if structure.query_heads % structure.kv_heads:
        raise Unknown("its heads do not fall into equal groups")


def _check_shapes(number: int, layer: Any, structure: Structure) -> None:
    queries = structure.query_heads * structure.head_dim
    keys = structure.kv_heads * structure.head_dim
    attention, mlp = layer.self_attn, layer.mlp
    expected = {
        attention.q_proj: (queries, structure.hidden),
        attention.k_proj: (keys, structure.hidden),
        attention.v_proj: (keys, structure.hidden),
        attention.o_proj: (structure.hidden, queries),
        mlp.gate_proj: (structure.intermediate, structure.hidden),
        mlp.up_proj: (structure.intermediate, structure.hidden),
        mlp.down_proj: (structure.hidden, structure.intermediate),
    }
    for linear, shape in expected.items():
        if tuple(linear.weight.shape) != shape:
            raise Unknown(f"layer {number} is not shaped like the first one")
    if float(attention.scaling) != structure.score_scale:
        raise Unknown(f"layer {number} scales its scores in its own way")
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    if structure.has_head_norms:
        norms += [attention.q_norm, attention.k_norm]
    if any(_epsilon(norm) != structure.norm_epsilon for norm in norms):
        raise Unknown(f"layer {number}'s norms have an epsilon of their own")


def _epsilon(norm: Any) -> float:
    if not type(norm).__name__.endswith("RMSNorm") or not hasattr(norm, "variance_epsilon"):
        raise Unknown(f"its norm is a {type(norm).__name__}")
    return float(norm.variance_epsilon)


def _window(config: Any, attention: Any) -> int | None:
    if config.model_type == "mistral":
        window = config.sliding_window
    else:
        window = getattr(attention, "sliding_window", None)
    return None if window is None else int(window)
