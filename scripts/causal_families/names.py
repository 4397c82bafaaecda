"""The families that transformers loads as causal language models."""

from __future__ import annotations

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def family_names() -> list[str]:
    """Every `model_type`, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
