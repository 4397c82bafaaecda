"""The memory of models whose config has another one for their text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmserve.domain import ModelSpec
from llmserve.engines.weights.footprint import footprint

TEXT = {
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 64, "dtype": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "config", [{"text_config": TEXT}, {"thinker_config": {"text_config": TEXT, "dtype": None}}]
)
def test_the_cache_is_that_of_the_text_side(tmp_path: Path, config: dict[str, Any]) -> None:
    vision = {"num_hidden_layers": 40, "hidden_size": 4096}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | {"dtype": "bfloat16", "vision_config": vision}))
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    size = footprint(ModelSpec("seer", path=tmp_path), max_running=5)
    assert size is not None
    assert size.weights == 1000
    assert size.cache == 2 * 3 * 2 * 16 * 2 * 64 * 5
