"""What a config says about recurrent layers: how many there are, and how much they remember of each
sequence. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FLOAT32: Final = 4
"""Bytes; what is summed up over a sequence is kept so, whatever the weights are."""
ATTENDING: Final = frozenset({
    "full_attention", "sliding_attention", "chunked_attention", "attention", "hybrid", "*",
})  # fmt: skip
"""Names of layers that store keys and values."""
REMEMBERING: Final = frozenset({"linear_attention", "mamba", "conv", "recurrent", "hybrid", "M"})
"""Names of layers that keep a state; Zamba's and Falcon's do both."""


def num_attending(config: Mapping[str, Any]) -> int:
    """How many layers store keys and values; all where nothing is said."""
    if not _bytes_of_layer(config, 1):
        return _number(config, "num_hidden_layers", "n_layer")
    return sum(kind in ATTENDING for kind in _kinds(config))


def state_bytes(config: Mapping[str, Any], size: int) -> int:
    """Of one sequence, estimated, with numbers of `size` bytes in what is kept of the last tokens;
    0 for a model without such layers, or of a family that is not known here."""
    of_layer = _bytes_of_layer(config, size)
    return sum(kind in REMEMBERING for kind in _kinds(config)) * of_layer if of_layer else 0


def _bytes_of_layer(config: Mapping[str, Any], size: int) -> int:
    if "linear_num_value_heads" in config:
        return _of_delta_rule(config, size)
    if "linear_attn_config" in config or "linear_num_heads" in config:
        return _of_kimi(config, size)
    if _number(config, "mamba_d_state", "ssm_state_size", "state_size"):
        return _of_mamba(config, size)
    if "conv_L_cache" in config:
        return _number(config, "hidden_size") * _number(config, "conv_L_cache") * size
    if str(config.get("model_type")).startswith("minimax") and _switches(config):
        return _number(config, "num_attention_heads") * _number(config, "head_dim") ** 2 * FLOAT32
    return 0


def _of_delta_rule(config: Mapping[str, Any], size: int) -> int:
    heads, width = (_number(config, f"linear_num_{name}_heads") for name in ("value", "key"))
    key, value = (_number(config, f"linear_{name}_head_dim") for name in ("key", "value"))
    kernel = _number(config, "linear_conv_kernel_dim", default=4)
    return heads * key * value * FLOAT32 + (2 * width * key + heads * value) * kernel * size


def _of_kimi(config: Mapping[str, Any], size: int) -> int:
    own = config.get("linear_attn_config") or config
    heads = _number(own, "num_heads" if own is not config else "linear_num_heads")
    width = _number(own, "head_dim" if own is not config else "linear_head_dim")
    kernel = _number(own, "short_conv_kernel_size", "linear_conv_kernel_dim", default=4)
    return heads * width * width * FLOAT32 + 3 * heads * width * kernel * size


def _of_mamba(config: Mapping[str, Any], size: int) -> int:
    """Of Mamba 2 where it has heads, of the first one elsewhere."""
    state = _number(config, "mamba_d_state", "ssm_state_size", "state_size")
    kernel = _number(config, "mamba_d_conv", "conv_kernel", "mamba_conv_kernel", default=4)
    heads = _number(config, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    hidden = _number(config, "hidden_size")
    if not heads:
        expanded = _number(config, "mamba_expand", "expand", default=2) * hidden
        inner = _number(config, "intermediate_size") if _is_mamba_alone(config) else expanded
        inner = inner or expanded
        return inner * state * FLOAT32 + inner * kernel * size
    width = _number(config, "mamba_d_head", "mamba_head_dim", "mamba_headdim", "head_dim")
    groups = _number(config, "mamba_n_groups", "mamba_ngroups", "n_groups", default=1)
    inner = heads * (width or _number(config, "mamba_expand", default=2) * hidden // heads)
    return inner * state * FLOAT32 + (inner + 2 * groups * state) * kernel * size


def _kinds(config: Mapping[str, Any]) -> list[str]:
    """Each layer's name, or what stands for it."""
    layers = _number(config, "num_hidden_layers", "n_layer")
    for name in ("layer_types", "layers_block_type"):
        if isinstance(config.get(name), list):
            return [str(kind) for kind in config[name]]
    if isinstance(pattern := config.get("hybrid_override_pattern"), str):
        return list(pattern)
    attending = _attending_layers(config, layers)
    if attending is not None:
        return ["attention" if i in attending else "recurrent" for i in range(layers)]
    return ["recurrent" if _is_mamba_alone(config) else "hybrid"] * layers


def _attending_layers(config: Mapping[str, Any], layers: int) -> set[int] | None:
    for name in ("attn_layer_indices", "full_attn_idxs"):
        if isinstance(config.get(name), list):
            return set(config[name])
    kimi = config.get("linear_attn_config")
    if isinstance(kimi, dict) and isinstance(kimi.get("full_attn_layers"), list):
        return {number - 1 for number in kimi["full_attn_layers"]}
    if isinstance(kinds := config.get("attn_type_list"), list):
        return {i for i, kind in enumerate(kinds) if kind}
    if period := _number(config, "attn_layer_period"):
        return set(range(_number(config, "attn_layer_offset"), layers, period))
    if period := _number(config, "full_attention_interval"):
        return set(range(period - 1, layers, period))
    return None


def _switches(config: Mapping[str, Any]) -> bool:
    kinds = config.get("layer_types")
    return "attn_type_list" in config or (isinstance(kinds, list) and "linear_attention" in kinds)


def _is_mamba_alone(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in ("mamba", "mamba2", "falcon_mamba")


def _number(config: Mapping[str, Any], *names: str, default: int = 0) -> int:
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int)), default)
