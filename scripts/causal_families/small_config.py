"""A tiny config of any family: its own defaults, made narrow and short by the names of the numbers.

What gives a family its shape stays: head sizes, the pattern of layers, groups of heads, experts.
Numbers that act by distance become small ones of different values, odd and even.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from causal_families.distances import DISTANCES
from causal_families.exceptions import EXCEPTIONS
from causal_families.names import VARIANT
from causal_families.variants import varied

CONTEXT: Final = 512
MAX_LAYERS: Final = 12
WIDTH: Final = 64
MAX_WIDTH: Final = 512
HEADS: Final = 4
SPECIAL: Final = {
    "initializer_range": 0.2,
    "init_std": 0.2,
    "embed_init_std": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "is_decoder": True,
}
"""What every config has that has such a name."""

_LAYERS: Final = re.compile(
    r"^(num_(hidden_)?(decoder_)?layers?|n_layers?|num_blocks|(decoder|encoder)_layers|depth)$"
)
_QUERY_HEADS: Final = re.compile(
    r"(^|_)(num_(attention_)?heads|n_heads?|(encoder|decoder)_attention_heads)$"
)
_KV_HEADS: Final = re.compile(r"(num_(global_)?key_value_heads|num_kv_heads|n_head_kv)$")
_WIDTHS: Final = re.compile(r"^(hidden_size|n_embd|d_model|dim|embedding_size|lru_width|d_embed)$")
_CONTEXTS: Final = re.compile(
    r"^(max_position_embeddings|n_positions|max_seq_len|n_ctx|max_length)$"
)
_PERIODS: Final = re.compile(r"(interval|period|pattern|freq|_step)$")
_SMALL: Final = (
    # The first that matches decides.
    (re.compile(r"experts_per_tok|moe_topk|top_?k_experts|moe_k$|moe_top_k"), 2),
    (re.compile(r"num_(local_|routed_)?experts$|n_routed_experts$|zero_expert_num"), 4),
    (re.compile(r"^(n_group|topk_group|num_expert_group|n_shared_experts)$"), 1),
    (re.compile(r"^vocab_size"), 1536),
    (
        re.compile(r"(intermediate|ffn|inner)_(size|dim|hidden_size)|ffn_dim|n_inner|d_ff|mlp_dim"),
        96,
    ),
    (re.compile(r"lora_rank$"), 32),
    (re.compile(r"hidden_size_per_layer_input|relation_dim"), 16),
    (re.compile(r"first_k_dense_replace|num_dense_layers|num_kv_shared_layers"), 1),
    (re.compile(r"max_window_layers"), 2),
    (re.compile(r"^(image_size|num_mel_bins)$"), 32),
)
"""Names, and the most that a number of such a name may be."""


def small_config(name: str) -> PretrainedConfig:
    """The tiny config of a `model_type` that transformers registers, or of a variant of it."""
    family, _, seed = name.partition(VARIANT)
    small = _shrunk(CONFIG_MAPPING[family]().to_dict()) | EXCEPTIONS.get(family, {})
    for name in ("model_type", "transformers_version", "architectures", "dtype"):
        small.pop(name, None)
    return AutoConfig.for_model(family, **(varied(small, int(seed)) if seed else small))


def _shrunk(values: Mapping[str, Any]) -> dict[str, Any]:
    heads = _first(values, _QUERY_HEADS) or 1
    width = _first(values, _WIDTHS) or WIDTH
    layers = _first(values, _LAYERS) or 1
    fewer = min(heads, HEADS)
    narrow = fewer * (width // heads)
    if values.get("head_dim") and (heads * values["head_dim"] != width or narrow > MAX_WIDTH):
        narrow = WIDTH  # heads have a size of their own
    short = _enough_layers(values, layers)

    def resized(name: str, value: int) -> int:
        if _LAYERS.search(name):
            return min(value, short)
        if _QUERY_HEADS.search(name):
            return min(value, fewer)
        if _KV_HEADS.search(name):
            return max(1, fewer // max(1, heads // value)) if value else value
        if _WIDTHS.search(name):
            return narrow
        if _CONTEXTS.search(name):
            return CONTEXT
        for names, most in (*_SMALL, *DISTANCES):
            if names.search(name):
                return min(value, most)
        return value

    def shrunk(name: str, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return resized(name, value)
        if isinstance(value, list | tuple):
            kept = value[:short] if len(value) == layers and layers > 1 else value
            return [shrunk(name, item) for item in kept]
        if isinstance(value, Mapping):
            if name == "per_layer_config":
                kept = {layer: its for layer, its in value.items() if int(layer) < short}
                return {layer: shrunk(str(layer), its) for layer, its in kept.items()}
            if name.endswith("_config"):
                return _shrunk(value) | EXCEPTIONS.get(value.get("model_type", ""), {})
            return {key: shrunk(str(key), item) for key, item in value.items()}
        return value

    small = {name: shrunk(name, value) for name, value in values.items()}
    small |= {name: SPECIAL[name] for name in SPECIAL if name in small}
    return small


def _enough_layers(values: Mapping[str, Any], layers: int) -> int:
    """As few layers as show every kind of layer, with those that follow a pattern twice."""
    enough = 2
    for name, value in values.items():
        if isinstance(value, list | tuple) and len(value) == layers:
            kinds = [str(item) for item in value]
            enough = max(enough, 1 + max(kinds.index(kind) for kind in kinds))
        if isinstance(value, int) and _PERIODS.search(name):
            enough = max(enough, value)
        if name == "per_layer_config" and value:
            enough = max(enough, 1 + min(int(layer) for layer in value))
    return min(layers, max(enough, 4 if enough > 2 else 2), MAX_LAYERS)


def _first(values: Mapping[str, Any], names: re.Pattern[str]) -> int | None:
    found = (v for k, v in values.items() if names.search(k) and isinstance(v, int) and v)
    return next(found, None)
