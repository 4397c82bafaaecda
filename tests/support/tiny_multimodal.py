"""Random models that also see or hear, a few layers each, as folders that are whole checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import PreTrainedModel

from llmserve.engines.weights.towers import without_towers

VOCAB: Final = 1024
TEXT: Final[Mapping[str, Any]] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SMALL: Final[Mapping[str, Any]] = {"hidden_size": 32, "intermediate_size": 48}
VIT: Final[Mapping[str, Any]] = {
    **SMALL, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
QWEN_VISION: Final[Mapping[str, Any]] = {
    **SMALL, "depth": 2, "num_heads": 2, "out_hidden_size": 64,
}  # fmt: skip
QWEN_IDS: Final[Mapping[str, int]] = {
    "image_token_id": 2600, "video_token_id": 2601, "vision_start_token_id": 2602,
    "vision_end_token_id": 2603,
}  # fmt: skip
"""No token that a text has: such a one would be taken for a picture's place."""
GEMMA_IDS: Final[Mapping[str, int]] = {
    "image_token_id": 2600, "boi_token_id": 2601, "eoi_token_id": 2602, "audio_token_id": 2603,
    "boa_token_id": 2604, "eoa_token_id": 2605, "video_token_id": 2606,
}  # fmt: skip

Made = tuple[type[PreTrainedModel], Any]


def multimodal_model(family: str, folder: Path, tokenizer: Path) -> PreTrainedModel:
    """The whole model of a family, saved in `folder` with the tokenizer of another one."""
    kind, config = FAMILIES[family]()
    torch.manual_seed(0)
    model = kind._from_config(config).eval().float()
    with torch.no_grad():
        for weight in model.parameters():
            # Far from their beginnings, so that a weight in a wrong place shows.
            weight.mul_(4 if weight.ndim > 1 else 1).add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(folder)
    for file in tokenizer.glob("*token*"):
        shutil.copy(file, folder)
    return model


def _rope(*sections: int, **more: Any) -> dict[str, Any]:
    parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(sections)}
    return {"rope_parameters": parameters | more}


def _qwen2_5_vl() -> Made:
    config = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, **_rope(2, 3, 3)},
        vision_config={**QWEN_VISION, "fullatt_block_indexes": [1]},
        **QWEN_IDS,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration, config


def _qwen3_vl() -> Made:
    config = transformers.Qwen3VLConfig(
        text_config={**TEXT, **_rope(3, 3, 2)},
        vision_config={**QWEN_VISION, "deepstack_visual_indexes": [0]},
        **QWEN_IDS,
    )
    return transformers.Qwen3VLForConditionalGeneration, config


def _qwen3_5() -> Made:
    linear = {
        "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }  # fmt: skip
    config = transformers.Qwen3_5Config(
        text_config={**TEXT, **linear, **_rope(2, 1, 1, partial_rotary_factor=0.5)},
        vision_config=dict(QWEN_VISION),
        **QWEN_IDS,
    )
    return transformers.Qwen3_5ForConditionalGeneration, config


def _gemma3() -> Made:
    windows = {"sliding_window": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 6}
    config = transformers.Gemma3Config(
        text_config={**TEXT, **windows},
        vision_config={**VIT, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=1,
        image_token_index=2600,
        boi_token_index=2601,
        eoi_token_index=2602,
    )
    return transformers.Gemma3ForConditionalGeneration, config


def _gemma3n() -> Made:
    text = {
        "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8,
        "num_hidden_layers": 10, "num_kv_shared_layers": 5, "sliding_window": 16,
        "altup_num_inputs": 2, "laurel_rank": 4, "activation_sparsity_pattern": None,
    }  # fmt: skip
    audio = {
        "hidden_size": 32, "conf_num_hidden_layers": 1, "conf_num_attention_heads": 2,
        "sscp_conv_channel_size": [8, 8],
    }  # fmt: skip
    config = transformers.Gemma3nConfig(
        text_config={**TEXT, **text},
        vision_config={"hidden_size": 32, "vocab_offset": VOCAB, "vocab_size": 8},
        audio_config=audio | {"vocab_offset": VOCAB + 8, "vocab_size": 8},
        image_token_id=2600,
        audio_token_id=2601,
    )
    whole = transformers.Gemma3nForConditionalGeneration
    without_towers(whole, config)  # its own is of timm, which is not installed
    return whole, config


def _gemma4() -> Made:
    text = {
        "sliding_window": 16, "num_hidden_layers": 12, "global_head_dim": 32,
        "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 6,
    }  # fmt: skip
    config = transformers.Gemma4Config(
        text_config={**TEXT, **text},
        vision_config={**VIT, "head_dim": 16, "num_key_value_heads": 2},
        audio_config=None,
        **GEMMA_IDS,
    )
    return transformers.Gemma4ForConditionalGeneration, config


def _mistral3() -> Made:
    config = transformers.Mistral3Config(
        text_config={**TEXT, "model_type": "mistral"},
        vision_config={**VIT, "model_type": "pixtral", "head_dim": 16},
        image_token_index=2600,
    )
    return transformers.Mistral3ForConditionalGeneration, config


def _llama4() -> Made:
    text = {
        "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 96,
        "attention_chunk_size": 16, "num_hidden_layers": 4, "interleave_moe_layer_step": 2,
    }  # fmt: skip
    vision = {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64}
    config = transformers.Llama4Config(
        text_config={**TEXT, **text},
        vision_config={**VIT, **vision},
        boi_token_index=2601,
        eoi_token_index=2602,
        image_token_index=2600,
    )
    return transformers.Llama4ForConditionalGeneration, config


def _internvl() -> Made:
    config = transformers.InternVLConfig(
        text_config={**TEXT, "model_type": "qwen3"},
        vision_config={**VIT, "image_size": [28, 28], "patch_size": [14, 14]},
        image_token_id=2600,
    )
    return transformers.InternVLForConditionalGeneration, config


def _qwen2_5_omni() -> Made:
    audio = {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "output_dim": 64,
    }  # fmt: skip
    thinker = {
        "text_config": {**TEXT, **_rope(2, 3, 3)},
        "vision_config": {**QWEN_VISION, "fullatt_block_indexes": [1]},
        "audio_config": audio,
        **QWEN_IDS,
        "audio_token_id": 2604,
        "audio_start_token_id": 2605,
        "audio_end_token_id": 2606,
    }
    config = transformers.Qwen2_5OmniConfig(thinker_config=thinker, enable_audio_output=False)
    return transformers.Qwen2_5OmniForConditionalGeneration, config


FAMILIES: Final[Mapping[str, Callable[[], Made]]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_5": _qwen3_5,
    "gemma3": _gemma3,
    "gemma3n": _gemma3n,
    "gemma4": _gemma4,
    "mistral3": _mistral3,
    "llama4": _llama4,
    "internvl": _internvl,
    "qwen2_5_omni": _qwen2_5_omni,
}
