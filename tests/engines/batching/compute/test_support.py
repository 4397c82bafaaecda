"""Which models the batching engine takes, and what it says of the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from make_model import make_model
from tiny_hybrids import tiny_hybrid
from transformers import (
    BartConfig,
    BartForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute import attention, miniature, support
from llmserve.engines.batching.compute.kv_cache import NO_ATTENTION, LayerShape
from llmserve.engines.batching.compute.state_pool import ZERO, StatePool
from llmserve.engines.batching.compute.support import Unsupported, cache_shape
from llmserve.engines.weights.loading import LoadedModel, load_model


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    return load_model(spec, tiny_model, lambda progress: None)


def attention_of(loaded: LoadedModel) -> Any:
    return loaded.model.model.layers[1].self_attn


def test_a_state_in_a_way_of_its_own_is_refused(loaded: LoadedModel) -> None:
    config = RecurrentGemmaConfig(
        vocab_size=64,
        hidden_size=16,
        lru_width=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        attention_window_size=64,
    )
    with pytest.raises(Unsupported, match="a way of its own"):
        cache_shape(replace(loaded, model=RecurrentGemmaForCausalLM(config).eval()))


def test_states_are_found_in_the_layers_that_keep_them() -> None:
    shape = cache_shape(tiny_hybrid("qwen3_5_text"))
    attends = [layer != NO_ATTENTION for layer in shape.layers]
    assert attends == [False, False, False, True, False]
    assert {(state.module, state.name) for state in shape.states} == {
        (f"model.layers.{layer}.linear_attn", name)
        for layer in (0, 1, 2, 4)
        for name in ("conv 0", "recurrent 0")
    }
    assert {state.shape for state in shape.states} == {(96, 4), (4, 8, 16)}


def test_a_model_may_have_no_layer_that_attends() -> None:
    shape = cache_shape(tiny_hybrid("mamba"))
    assert shape.bytes_per_token(torch.float32) == 0
    assert shape.bytes_per_state == 5 * 4 * (96 * 4 + 96 * 8)


def test_a_model_that_would_lose_its_states_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatePool, "_source", lambda self, part: ZERO)
    with pytest.raises(Unsupported, match="small copy"):
        cache_shape(tiny_hybrid("lfm2"))


def test_where_no_copy_can_be_made_the_model_itself_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(miniature, "MAX_PARAMETERS", 10)
    assert cache_shape(tiny_hybrid("lfm2")).states
    monkeypatch.setattr(StatePool, "_source", lambda self, part: ZERO)
    with pytest.raises(Unsupported, match="paged cache"):
        cache_shape(tiny_hybrid("lfm2"))


def test_layers_on_several_devices_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="several devices"):
        cache_shape(replace(loaded, placement="device_map=auto"))


@pytest.mark.parametrize("rope_type", ["longrope", "dynamic"])
def test_positions_that_change_within_the_context_are_refused(
    loaded: LoadedModel, rope_type: str
) -> None:
    loaded.model.config.rope_parameters = {
        "rope_type": rope_type,
        "original_max_position_embeddings": 64,
    }
    with pytest.raises(Unsupported, match="over 64 tokens"):
        cache_shape(loaded)


def without_interface(attention: Any) -> Callable[..., Any]:
    def forward(hidden_states: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, None]:
        return hidden_states, None

    return forward


def test_a_layer_that_attends_on_its_own_is_refused(loaded: LoadedModel) -> None:
    attention_of(loaded).forward = without_interface(attention_of(loaded))
    with pytest.raises(Unsupported, match="1 of its 2 layers"):
        cache_shape(loaded)


def test_layers_that_share_a_number_are_refused(loaded: LoadedModel) -> None:
    attention_of(loaded).layer_idx = 0
    with pytest.raises(Unsupported, match="the same number"):
        cache_shape(loaded)


def test_a_model_that_does_something_else_to_its_scores_is_refused(loaded: LoadedModel) -> None:
    """What reaches SDPA by the mask, such as ALiBi, does not reach another attention."""
    original = attention_of(loaded).forward

    def biased(hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        length = hidden_states.shape[1]
        causal = torch.full((length, length), -torch.inf).triu(1)
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        kwargs["attention_mask"] = (causal + 0.5 * distance)[None, None]
        return original(hidden_states, **kwargs)

    attention_of(loaded).forward = biased
    with pytest.raises(Unsupported, match="not the same"):
        cache_shape(loaded)


def test_a_model_that_counts_its_tokens_by_itself_is_refused(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone a row's tokens stand where they stand in the step; in a batch they do not."""
    original = LlamaRotaryEmbedding.forward

    def counting(self: Any, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> Any:
        cached = position_ids[:, 0].min()
        return original(self, hidden_states, cached + torch.arange(position_ids.shape[1])[None])

    monkeypatch.setattr(LlamaRotaryEmbedding, "forward", counting)
    with pytest.raises(Unsupported, match="a small copy's answers are not the same"):
        cache_shape(loaded)


def test_a_model_without_a_small_copy_is_refused_only_for_its_distances(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniature, "_WIDTHS", re.compile("$^"))
    assert len(cache_shape(loaded).layers) == 2
    loaded.model.config.sliding_window = 100
    with pytest.raises(Unsupported, match=r"its sliding_window could not be tried.*known name"):
        cache_shape(loaded)


def test_a_model_that_raises_is_refused_with_what_it_said(loaded: LoadedModel) -> None:
    original = attention_of(loaded).forward

    def picky(hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        if "probe" in loaded.model.config._attn_implementation:
            raise ValueError("only flash here")
        return original(hidden_states, **kwargs)

    attention_of(loaded).forward = picky
    with pytest.raises(Unsupported, match="only flash here"):
        cache_shape(loaded)


def test_a_model_is_left_as_it_was_and_its_shapes_are_told(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    before = loaded.model.config._attn_implementation
    assert cache_shape(loaded).layers == (LayerShape(2, 16),) * 2
    assert loaded.model.config._attn_implementation == before
    make_model("tiny-gpt2", tmp_path / "gpt2")
    spec = ModelSpec("gpt2", path=tmp_path / "gpt2", dtype="float32", device="cpu")
    gpt2 = load_model(spec, tmp_path / "gpt2", lambda progress: None)
    assert cache_shape(gpt2).layers == (LayerShape(4, 16),) * 2


@pytest.mark.parametrize("preset", ["tiny-mixtral", "tiny-qwen3-moe", "tiny-gpt-oss"])
def test_rounding_does_not_refuse_a_model_of_experts(tmp_path: Path, preset: str) -> None:
    """With two bytes a number, rounding chooses other experts for some of the tokens."""
    make_model(preset, tmp_path / preset)
    spec = ModelSpec(preset, path=tmp_path / preset, dtype="bfloat16", device="cpu")
    loaded = load_model(spec, tmp_path / preset, lambda progress: None)
    assert len(cache_shape(loaded).layers) == 2


def test_a_model_of_experts_that_answers_otherwise_everywhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model("tiny-mixtral", tmp_path / "moe")
    spec = ModelSpec("moe", path=tmp_path / "moe", dtype="bfloat16", device="cpu")
    loaded = load_model(spec, tmp_path / "moe", lambda progress: None)
    plain = attention.attend_row

    def wrong_in_service(query: torch.Tensor, *others: Any) -> torch.Tensor:
        result = plain(query, *others)
        return result * 3 if query.dtype == torch.bfloat16 else result

    monkeypatch.setattr(attention, "attend_row", wrong_in_service)
    with pytest.raises(Unsupported, match="not the same on a paged cache"):
        cache_shape(loaded)


def test_a_model_whose_own_answers_vary_may_vary_on_the_paged_cache(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that rounds to nothing below a threshold, say: how a prompt is divided shows."""
    plain = attention.attend_row

    def rounded(query: torch.Tensor, *others: Any) -> torch.Tensor:
        result = plain(query, *others)
        return result * 1.002 if query.dtype == torch.float32 else result

    monkeypatch.setattr(attention, "attend_row", rounded)
    with pytest.raises(Unsupported, match="not the same on a paged cache"):
        cache_shape(loaded)
    monkeypatch.setattr(support, "own_rounding", lambda model, length: 100.0)
    assert len(cache_shape(loaded).layers) == 2
    monkeypatch.setattr(support, "MOST_ROUNDING", 1e-4)
    with pytest.raises(Unsupported, match="not the same on a paged cache"):
        cache_shape(loaded)
    monkeypatch.setattr(support, "MOST_ROUNDING", 0.25)
    monkeypatch.setattr(support, "_try_miniature", lambda *arguments: False)
    with pytest.raises(Unsupported, match="not the same on a paged cache"):
        cache_shape(loaded)


def test_a_family_that_counts_tokens_by_itself_is_refused_however_weak_its_positions(
    loaded: LoadedModel,
) -> None:
    config = BartConfig(
        vocab_size=64, d_model=16, encoder_layers=2, decoder_layers=2, decoder_attention_heads=2
    )
    model = BartForCausalLM(config).eval()
    with pytest.raises(Unsupported, match="a small copy's answers are not the same"):
        cache_shape(replace(loaded, model=model))


def test_a_model_that_gives_other_logits_than_it_was_asked_for_is_refused(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded.model.forward

    def all_of_them(*arguments: Any, logits_to_keep: Any = None, **options: Any) -> Any:
        return plain(*arguments, **options)

    monkeypatch.setattr(loaded.model, "forward", all_of_them)
    with pytest.raises(Unsupported, match="its answers are not the same"):
        cache_shape(loaded)


@pytest.mark.parametrize(
    ("window", "parameters", "length"),
    [(None, 10**8, 24), (40, 10**10, 48), (100, 10**8, 108), (100, 10**10, 24), (500, 10, 24)],
)
def test_a_model_is_tried_beyond_its_windows_as_far_as_that_takes_little_time(
    loaded: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    window: int | None,
    parameters: int,
    length: int,
) -> None:
    lengths: list[int] = []
    plain = support.on_paged_cache

    def noted(model: Any, shapes: Any, length: int, num_decoded: int) -> Any:
        lengths.append(length)
        return plain(model, shapes, length, num_decoded)

    monkeypatch.setattr(support, "on_paged_cache", noted)
    monkeypatch.setattr(support, "distances", lambda *_: {"window": window} if window else {})
    monkeypatch.setattr(support, "_try_miniature", lambda *_: True)
    cache_shape(replace(loaded, parameters=parameters))
    assert lengths == [length]
