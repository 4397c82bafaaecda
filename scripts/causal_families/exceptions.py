"""What the generic rules cannot know of a family's config: numbers that its class leaves out, and
those that must fit each other."""

from __future__ import annotations

from typing import Any, Final

_ROPE: Final = {"rope_type": "default", "rope_theta": 10_000.0}
_MAMBA: Final = {"mamba_d_head": 64, "mamba_n_heads": 16, "mamba_d_state": 32}
_HEAD_DIM: Final = {"head_dim": 128}
_NGRAMS: Final = {
    "ngram_vocab_size_base": 200,
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 32,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 32,
}

EXCEPTIONS: Final[dict[str, dict[str, Any]]] = {
    "bamba": _MAMBA | {"hidden_size": 512, "attn_layer_indices": [1, 3], "num_hidden_layers": 4},
    "blt": {"encoder_hash_byte_group_vocab": 500},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "dots3_note_text": {"num_key_value_heads": 4, "num_attention_heads": 4},
    "dbrx": {"attn_config": {"kv_n_heads": 1, "clip_qkv": 8.0, "rope_theta": 10_000.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "moe_intermediate_size": 96},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_d_head": 64, "mamba_d_ssm": 256, "mamba_n_heads": 4},
    "granitemoehybrid": _MAMBA
    | {"hidden_size": 512, "layer_types": ["mamba", "attention"] * 2, "num_hidden_layers": 4},
    "hunyuan_v1_dense": _HEAD_DIM,
    "hunyuan_v1_moe": _HEAD_DIM | {"num_experts": 4, "moe_topk": 2},
    "hrm_text": {"num_layers_per_stack": 1, "num_hidden_layers": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "num_hidden_layers": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_hidden_layers": 4},
    "mamba2": {"num_heads": 16, "hidden_size": 512, "state_size": 32, "n_groups": 1},
    "ministral": _HEAD_DIM | {"layer_types": ["sliding_attention", "full_attention"]},
    "nemotron": {"num_key_value_heads": 4},
    "nemotron_h": {"n_groups": 2, "mamba_num_heads": 4},
    "qwen4_exp_text": _NGRAMS,
    "rwkv": {"hidden_size": 64, "attention_hidden_size": 64},
    "xlm": {"emb_dim": 256},
    "xlstm": {"hidden_size": 256, "embedding_dim": 256},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
}
