"""The trial tells what attends rightly from what does not, also where rounding would decide."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from make_model import make_model

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.compute.trial import Trial
from llmserve.engines.weights.loading import LoadedModel, load_model


def loaded_model(
    folder: Path, preset: str, dtype: str, max_context: int | None = None
) -> LoadedModel:
    make_model(preset, folder / preset)
    spec = ModelSpec(
        preset, path=folder / preset, dtype=dtype, device="cpu", max_context=max_context
    )
    return load_model(spec, folder / preset, lambda progress: None)


class Altered(TorchAttention):
    """Gives what plain torch gives, but not always."""

    def __init__(self, where: str) -> None:
        self.where = where

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        result = super().attend(cache, layer, batch, query, variant)
        count = batch.num_decode
        if self.where == "decode" and count:
            result[:count] += 0.5 * result.abs().max()
        elif self.where == "prompts" and count < len(batch.context_lengths):
            result[-1] += 0.5 * result.abs().max()
        elif self.where == "last layer" and layer == len(cache.keys) - 1:
            result[0] = 0.0
        elif self.where == "nan":
            result[0] = torch.nan
        return result


@pytest.mark.parametrize("preset", ["tiny-llama", "tiny-gemma2", "tiny-gpt-oss"])
def test_what_is_right_passes_and_leaves_the_model_as_it_was(tmp_path: Path, preset: str) -> None:
    loaded = loaded_model(tmp_path, preset, "float32")
    before = loaded.model.config._attn_implementation
    trial = Trial(loaded, cache_shape(loaded), 16)
    assert trial.is_right(GroupedAttention(), KVCache)
    assert loaded.model.config._attn_implementation == before


@pytest.mark.parametrize("where", ["decode", "prompts", "last layer", "nan"])
def test_what_is_wrong_anywhere_does_not(tmp_path: Path, where: str) -> None:
    loaded = loaded_model(tmp_path, "tiny-llama", "float32")
    assert not Trial(loaded, cache_shape(loaded), 16).is_right(Altered(where), KVCache)


def test_a_cache_that_writes_elsewhere_is_found(tmp_path: Path) -> None:
    class Shifted(KVCache):
        def write(
            self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
        ) -> None:
            super().write(layer, slots // 2, keys, values)

    loaded = loaded_model(tmp_path, "tiny-llama", "float32")
    assert not Trial(loaded, cache_shape(loaded), 16).is_right(TorchAttention(), Shifted)


def test_rounding_in_a_mixture_of_experts_is_no_failure(tmp_path: Path) -> None:
    class Rounded(TorchAttention):
        def attend(
            self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
        ) -> torch.Tensor:
            result = super().attend(cache, layer, batch, query, variant)
            return result * (1 + torch.randn_like(result) / 128)

    loaded = loaded_model(tmp_path, "tiny-qwen3-moe", "bfloat16")
    torch.manual_seed(0)
    assert Trial(loaded, cache_shape(loaded), 16).is_right(Rounded(), KVCache)


@pytest.mark.parametrize("max_context", [2, 3, 20])
def test_a_short_context_is_tried_as_far_as_it_goes(tmp_path: Path, max_context: int) -> None:
    loaded = loaded_model(tmp_path, "tiny-llama", "float32", max_context)
    trial = Trial(loaded, cache_shape(loaded), 16)
    assert trial.is_right(TorchAttention(), KVCache)
    assert not trial.is_right(Altered("decode"), KVCache)
