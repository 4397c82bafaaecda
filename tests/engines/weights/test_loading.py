"""What is known of a model once it is loaded."""

from __future__ import annotations

from pathlib import Path

from llmserve.domain import ModelSpec
from llmserve.engines.weights.loading import load_model


def test_a_token_counts_if_it_has_a_logit(tiny_model: Path) -> None:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    loaded = load_model(spec, tiny_model, lambda progress: None)
    rows = len(loaded.model.get_output_embeddings().weight)
    assert loaded.vocab == rows
    loaded.model.config.vocab_size = rows + 64  # a head that was cut
    assert loaded.vocab == rows
    loaded.model.config.vocab_size = rows - 64  # a head that was padded
    assert loaded.vocab == rows - 64
