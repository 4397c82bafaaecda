"""The presets: published shapes of well-known models and two-layer miniatures of many families.

Knows configurations only: no weights, no files.
"""

import difflib
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from random_models.tokenizer import (
    END_OF_TEXT,
    SPECIAL_TOKENS,
    TRAINED_VOCAB_SIZE,
    TURN_END,
    TURN_START,
)

END_OF_TEXT_ID = SPECIAL_TOKENS.index(END_OF_TEXT)
TURN_START_ID = SPECIAL_TOKENS.index(TURN_START)
TURN_END_ID = SPECIAL_TOKENS.index(TURN_END)


class UnknownPreset(ValueError):
    """No preset has this name; the message names the nearest ones."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One model to make: a transformers `model_type` and the settings that shape it."""

    name: str
    model_type: str
    settings: dict[str, Any] = field(repr=False)
    dtype: str
    embedding_scale: float = 1.0
    """Shrinks the token table where it would drown the layers and each token repeat itself."""

    @property
    def is_tiny(self) -> bool:
        """Whether it is a miniature for tests rather than a published shape."""
        return self.name.startswith("tiny-")

    def config(self) -> PretrainedConfig:
        """Build the model's configuration with our own special token ids."""
        return AutoConfig.for_model(
            self.model_type,
            **self.settings,
            bos_token_id=TURN_START_ID,
            eos_token_id=TURN_END_ID,
            pad_token_id=END_OF_TEXT_ID,
        )

    def generation_config(self) -> GenerationConfig:
        """Build the defaults of `generate`: greedy, ends at either end token."""
        return GenerationConfig(
            bos_token_id=TURN_START_ID,
            eos_token_id=[TURN_END_ID, END_OF_TEXT_ID],
            pad_token_id=END_OF_TEXT_ID,
        )


def find_preset(name: str) -> Preset:
    """Return the preset of this name; `_` and `-` are the same.

    Raises:
        UnknownPreset: if there is none.
    """
    key = name.lower().replace("_", "-")
    if key in PRESETS:
        return PRESETS[key]
    nearest = difflib.get_close_matches(key, PRESETS, n=3, cutoff=0.3)
    hint = f"did you mean {', '.join(nearest)}? " if nearest else ""
    raise UnknownPreset(f"no preset is called {name!r}; {hint}--list shows all of them")


def _full(name: str, model_type: str, **settings: Any) -> Preset:
    return Preset(name, model_type, settings, dtype="bfloat16")


def _tiny(
    model_type: str, *, alias: str | None = None, embedding_scale: float = 1.0, **settings: Any
) -> Preset:
    name = f"tiny-{alias or model_type}".replace("_", "-")
    return Preset(name, model_type, _TINY_SHAPE | settings, "float32", embedding_scale)


def _rope(theta: float, **settings: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta} | settings


def _llama3_rope(factor: float) -> dict[str, Any]:
    return _rope(
        500_000.0,
        rope_type="llama3",
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )


_FULL = [
    # https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json
    _full(
        "smollm2-135m",
        "llama",
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters=_rope(100_000.0),
        tie_word_embeddings=True,
        initializer_range=1 / 24,
    ),
    # https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/config.json
    _full(
        "qwen3-0.6b",
        "qwen3",
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        rms_norm_eps=1e-6,
        rope_parameters=_rope(1_000_000.0),
        tie_word_embeddings=True,
    ),
    # https://huggingface.co/meta-llama/Llama-3.2-1B/blob/main/config.json
    _full(
        "llama-3.2-1b",
        "llama",
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_parameters=_llama3_rope(32.0),
        tie_word_embeddings=True,
    ),
    # https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json
    _full(
        "llama-3.1-8b",
        "llama",
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_parameters=_llama3_rope(8.0),
        tie_word_embeddings=False,
    ),
]

# Wide weights make logits spread: greedy text wanders instead of repeating one token.
_TINY_SHAPE: dict[str, Any] = {
    "vocab_size": TRAINED_VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.25,
}
_LOCAL_THEN_GLOBAL = ["sliding_attention", "full_attention"]
_GEMMA_EMBEDDING_SCALE = 0.1  # Gemma multiplies embeddings by sqrt(hidden_size)

_TINY = [
    _tiny("llama"),
    _tiny("mistral", sliding_window=16),
    _tiny("qwen2"),
    _tiny("qwen3", tie_word_embeddings=True),
    _tiny(
        "gemma2",
        embedding_scale=_GEMMA_EMBEDDING_SCALE,
        sliding_window=16,
        layer_types=_LOCAL_THEN_GLOBAL,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=5.0,  # low enough to bite at this size
        final_logit_softcapping=0.5,  # likewise
    ),
    _tiny(
        "gemma3_text",
        alias="gemma3",
        embedding_scale=_GEMMA_EMBEDDING_SCALE,
        sliding_window=16,
        layer_types=_LOCAL_THEN_GLOBAL,
        query_pre_attn_scalar=16,
    ),
    _tiny("phi3", original_max_position_embeddings=2048),
    _tiny("gpt2", n_positions=1024, n_embd=64, n_layer=2, n_head=4),
    _tiny("gpt_neox"),
    _tiny("olmo2"),
    _tiny(
        "granite",
        embedding_multiplier=12.0,
        residual_multiplier=0.22,
        attention_multiplier=0.125,
        logits_scaling=2.0,
    ),
    _tiny("starcoder2"),
    _tiny("cohere", logit_scale=0.5),
    _tiny("stablelm", use_qkv_bias=True),
    _tiny("mixtral", num_local_experts=4, num_experts_per_tok=2),
    _tiny(
        "qwen3_moe",
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        norm_topk_prob=True,
    ),
    _tiny(
        "qwen3_next",
        num_hidden_layers=4,
        layer_types=[*["linear_attention"] * 3, "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=64,
    ),
    _tiny("mamba2", num_hidden_layers=4, num_heads=8, head_dim=16, n_groups=2, state_size=16),
    _tiny(
        "gpt_oss",
        sliding_window=16,
        layer_types=_LOCAL_THEN_GLOBAL,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters=_rope(
            150_000.0,
            rope_type="yarn",
            factor=32.0,
            beta_fast=32.0,
            beta_slow=1.0,
            truncate=False,
            original_max_position_embeddings=64,  # 2048 / 32
        ),
    ),
]

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _FULL + _TINY}
