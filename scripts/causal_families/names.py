"""The families that transformers loads as causal language models."""

from __future__ import annotations

from typing import Final

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VARIANT: Final = "#"
"""Between a family and the number of a variant, where a config's values are chosen at random."""


def family_names() -> list[str]:
    """Every `model_type`, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
