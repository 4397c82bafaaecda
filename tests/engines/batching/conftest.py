"""Models that several files of this folder load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hybrid_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A model with layers of short convolutions, each of which keeps a state, and the tokenizer of
    another."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models") / "hybrid"
    shutil.copytree(tiny_model, folder)
    own = json.loads((tiny_model / "config.json").read_text())
    config = AutoConfig.for_model(
        "lfm2",
        vocab_size=own["vocab_size"],
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=own["eos_token_id"],
        layer_types=["conv", "full_attention", "conv", "full_attention"],
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
