"""Random float32 models whose layers keep recurrent states, with the ratios of real ones: kinds of
layers, heads, groups, experts."""

from __future__ import annotations

from typing import Any, Final

from random_loaded import random_loaded

from llmserve.engines.weights.loading import LoadedModel

CONTEXT: Final = 256

_SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_MOE: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
_DELTA: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention", "linear_attention"],
}
_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
    "mamba_expand": 2,
}
_MAMBA: dict[str, Any] = {"state_size": 8, "conv_kernel": 4, "time_step_rank": 4}

HYBRIDS: Final[dict[str, dict[str, Any]]] = {
    "qwen3_next": _DELTA | _MOE,
    "qwen3_5_text": _DELTA,
    "qwen3_5_moe_text": _DELTA | _MOE,
    "olmo_hybrid": _DELTA | {"num_key_value_heads": 4},
    "kimi_linear": _MOE
    | {"linear_head_dim": 16, "linear_num_heads": 4, "num_key_value_heads": 4}
    | {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 24}
    | {"layer_types": _DELTA["layer_types"]},
    "bailing_hybrid": _MOE
    | {"n_group": 1, "topk_group": 1, "linear_head_dim": 16, "linear_num_heads": 4}
    | {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 24}
    | {"num_key_value_heads": 4, "layer_types": _DELTA["layer_types"]},
    "nemotron_h": _MOE
    | {"mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 16}
    | {"chunk_size": 16, "moe_shared_expert_intermediate_size": 32, "num_hidden_layers": 6}
    | {"layers_block_type": [*("linear_attention", "moe") * 2, "full_attention", "mlp"]},
    "granitemoehybrid": _MAMBA2
    | _MOE
    | {"shared_intermediate_size": 32, "position_embedding_type": "nope"}
    | {"layer_types": ["linear_attention"] * 2 + ["full_attention"] + ["linear_attention"] * 2},
    "falcon_h1": _MAMBA2 | {"mamba_d_ssm": 128},
    "bamba": _MAMBA2 | {"attn_layer_indices": [1, 3]},
    "jamba": _MOE
    | {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 4}
    | {"attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2}
    | {"expert_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": _MOE
    | {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"]}
    | {"num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "state_size": 16, "n_groups": 2, "chunk_size": 16, "expand": 2},
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "lfm3": {"layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"]},
    "minimax": _MOE
    | {"block_size": 16}
    | {"layer_types": ["linear_attention", "full_attention"] * 2 + ["linear_attention"]},
    "zaya": _MOE | {"num_experts_per_tok": 1, "router_hidden_size": 16},
}


def tiny_hybrid(family: str) -> LoadedModel:
    """A model of a family of `HYBRIDS`."""
    return random_loaded(family, CONTEXT, **_SHAPE | HYBRIDS[family])
