"""What is known of a model once it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

from llmserve.domain import ModelSpec, SamplingFields
from llmserve.engines.weights.loading import DEFAULT_CONTEXT, _max_context, load_model
from llmserve.errors import ModelBroken


def test_a_token_counts_if_it_has_a_logit(tiny_model: Path) -> None:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    loaded = load_model(spec, tiny_model, lambda progress: None)
    rows = len(loaded.model.get_output_embeddings().weight)
    assert loaded.vocab == rows
    loaded.model.config.vocab_size = rows + 64  # a head that was cut
    assert loaded.vocab == rows
    loaded.model.config.vocab_size = rows - 64  # a head that was padded
    assert loaded.vocab == rows - 64


def test_an_operators_stop_token_without_an_embedding_is_told_when_the_model_is_loaded(
    tiny_model: Path,
) -> None:
    sampling = SamplingFields(stop_token_ids=(5, 10**6))
    spec = ModelSpec("tiny", path=tiny_model, device="cpu", sampling=sampling)
    with pytest.raises(ModelBroken, match=r"stop_token_ids in its model\.toml: token id 1000000"):
        load_model(spec, tiny_model, lambda progress: None)


@pytest.mark.parametrize(
    ("family", "asked", "context"),
    [
        ("llama", None, 2048),
        ("llama", 512, 512),
        ("llama", 9000, 2048),
        ("mpt", 9000, 2048),
        ("mamba2", None, DEFAULT_CONTEXT),
        ("mamba2", 9000, 9000),  # it has no positions
    ],
)
def test_the_context_that_an_operator_asks_for_is_bounded_by_what_the_config_says(
    family: str, asked: int | None, context: int
) -> None:
    spec = ModelSpec("it", max_context=asked)
    assert _max_context(AutoConfig.for_model(family), spec) == context
