"""What configs say about recurrent layers, against what the layers keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny_hybrids import HYBRIDS, tiny_hybrid

from llmserve.engines.batching.compute.state_watch import watched_states
from llmserve.engines.weights.recurrent_config import num_attending, state_bytes

ATTENDING = {
    "qwen3_next": 1, "qwen3_5_text": 1, "qwen3_5_moe_text": 1, "olmo_hybrid": 1, "kimi_linear": 1,
    "nemotron_h": 1, "granitemoehybrid": 1, "falcon_h1": 5, "bamba": 2, "zamba2": 2, "jamba": 2,
    "lfm2": 2, "lfm2_moe": 2, "mamba2": 0, "mamba": 0, "falcon_mamba": 0, "minimax": 2,
    "bailing_hybrid": 1, "lfm3": 2,
}  # fmt: skip


@pytest.mark.parametrize("family", [name for name in HYBRIDS if name in ATTENDING])
def test_what_is_estimated_is_what_the_layers_keep(family: str) -> None:
    model = tiny_hybrid(family).model
    config = model.config.to_dict()
    with torch.inference_mode(), watched_states(model) as shapes:
        model(input_ids=torch.arange(4, 28)[None], use_cache=False)
    assert state_bytes(config, 4) == sum(shape.num_bytes for shape in shapes) > 0
    assert num_attending(config) == ATTENDING[family]


@pytest.mark.parametrize(
    ("config", "attending"),
    [
        ({"attn_layer_period": 8, "attn_layer_offset": 4}, 4),
        ({"attn_layer_indices": [9, 18]}, 2),
        ({"full_attention_interval": 4}, 8),
        ({"full_attn_idxs": [2, 5, 8]}, 3),
        ({"attn_type_list": [0, 0, 1, 0] * 8}, 8),
        ({"hybrid_override_pattern": "M-M*" * 8}, 8),
        ({"linear_attn_config": {"full_attn_layers": [4, 8], "num_heads": 2, "head_dim": 8}}, 2),
        ({}, 32),
    ],
)
def test_every_way_to_name_layers_is_known(config: dict[str, Any], attending: int) -> None:
    shape = {"num_hidden_layers": 32, "num_attention_heads": 4, "hidden_size": 64}
    told = shape | {"mamba_d_state": 16, "mamba_n_heads": 4, "mamba_d_head": 8} | config
    assert num_attending(told) == attending
    assert state_bytes(told, 2) > 0


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096},
        {"n_layer": 32, "n_head": 32, "layer_types": ["sliding_attention", "full_attention"] * 16},
        {"model_type": "minimax_m2", "num_hidden_layers": 32, "head_dim": 128},
    ],
)
def test_a_model_that_only_attends_keeps_no_state(config: dict[str, Any]) -> None:
    assert state_bytes(config, 2) == 0
    assert num_attending(config) == 32
