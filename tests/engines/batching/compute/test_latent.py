"""Latents: what they become is what the model's own projection makes of them, and attending to them
as they are stored is attending to what they become."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from native_models import PATHS, error, kernels
from paged import filled_cache, paged_batch
from torch import nn

from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.latent import Latent, LatentLayers, LatentTokens
from llmserve.engines.batching.compute.native.attention import NativeAttention

HEADS, RANK, UNROTATED, ROTATED, VALUE_DIM = 4, 32, 12, 16, 20
SHAPE = LayerShape(
    1, RANK + ROTATED, RANK, expanded=LayerShape(HEADS, UNROTATED + ROTATED, VALUE_DIM)
)
ROWS = [(33, 1), (7, 1), (50, 20), (64, 64), (2, 2)]
VARIANTS = {
    "full": Variant(0.25),
    "window": Variant(0.25, window=9),
    "sinks": Variant(0.25, sinks=torch.linspace(-1, 2, HEADS)),
}


def projection(*, bias: bool = False) -> nn.Linear:
    torch.manual_seed(4)
    return nn.Linear(RANK, HEADS * (UNROTATED + VALUE_DIM), bias=bias)


def expanded(made: torch.Tensor, rotated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, (1, heads, num_tokens, ...), as a model makes them of what it projected."""
    whole = made.view(1, made.shape[1], HEADS, UNROTATED + VALUE_DIM).transpose(1, 2)
    keys, values = whole.split((UNROTATED, VALUE_DIM), -1)
    return torch.cat((keys, rotated.expand(-1, HEADS, -1, -1)), -1), values


def told(tokens: LatentTokens, length: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer has updated its cache: its latents and rotated parts."""
    latents, rotated = torch.randn(1, 1, length, RANK), torch.randn(1, 1, length, ROTATED)
    assert tokens.update(latents, rotated, 0) == (latents, rotated)
    return latents, rotated


@torch.inference_mode()
def test_what_is_stored_becomes_what_the_model_makes_of_it() -> None:
    tokens, layer = LatentTokens(), projection()
    latents, rotated = told(tokens)
    keys, values = expanded(layer(latents[:, 0]), rotated)
    latent = Latent.of(layer, RANK, values)
    made = latent.expand(tokens.take()[:, 0])
    torch.testing.assert_close(made, (keys[0], values[0]))
    told(tokens)
    latents, rotated = told(tokens)
    keys, values = expanded(layer(latents[:, 0]), rotated)
    assert tokens.watched(layer, keys, values) == (RANK, ROTATED)


@torch.inference_mode()
def test_what_is_made_in_another_way_is_no_latent() -> None:
    tokens = LatentTokens()
    layer = projection(bias=True)
    latents, rotated = told(tokens)
    keys, values = expanded(layer(latents[:, 0]), rotated)
    assert tokens.watched(layer, keys, values) is None, "the bias is not multiplied"
    layer = projection()
    latents, rotated = told(tokens)
    keys, values = expanded(layer(latents[:, 0]), rotated)
    assert tokens.watched(layer, keys.roll(ROTATED, -1), values) is None, "in another order"
    told(tokens)
    assert tokens.watched(layer, keys[..., :-1], values) is None, "of another width"
    assert tokens.watched(layer, keys, values) is None, "no cache was updated"
    tokens.update(keys, values, 0)
    assert tokens.watched(layer, keys, values) is None, "a cache of keys and values"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_attending_to_latents_is_attending_to_what_they_become(variant: Variant) -> None:
    batch = paged_batch(ROWS, block_size=16, num_blocks=40)
    cache = filled_cache(SHAPE, num_blocks=40, block_size=16)
    query = torch.randn(len(batch.token_ids), HEADS, UNROTATED + ROTATED)
    layer = projection()
    latent = Latent.of(layer.requires_grad_(False), RANK, torch.empty(1, HEADS, 1, VALUE_DIM))
    variant = Variant(variant.scale, window=variant.window, sinks=variant.sinks, latent=latent)
    expected = TorchAttention().attend(cache, 0, batch, query, variant)
    actual = GroupedAttention().attend(cache, 0, batch, query, variant)
    assert actual.shape == (len(query), HEADS, VALUE_DIM)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_the_kernels_attend_to_latents(path: str) -> None:
    batch = paged_batch(ROWS, block_size=16, num_blocks=40)
    cache = filled_cache(SHAPE, num_blocks=40, block_size=16, dtype=torch.bfloat16)
    query = torch.randn(len(batch.token_ids), HEADS, UNROTATED + ROTATED).bfloat16()
    layer = projection().bfloat16().requires_grad_(False)
    unit = torch.empty(1, HEADS, 1, VALUE_DIM, dtype=torch.bfloat16)
    variant = Variant(0.1, latent=Latent.of(layer, RANK, unit))
    attention = NativeAttention(kernels(path=path), Refusing())
    actual = attention.attend(cache, 0, batch, query, variant)
    assert error(actual, TorchAttention().attend(cache, 0, batch, query, variant)) < 0.02


class Refusing:
    """Nothing is left to it."""

    def attend(self, *arguments: object) -> torch.Tensor:
        raise AssertionError("the kernels attend to latents")


def test_latents_are_stored_once() -> None:
    cache = KVCache(
        [SHAPE], num_blocks=3, block_size=4, dtype=torch.float32, device=torch.device("cpu")
    )
    stored = torch.randn(2, 1, RANK + ROTATED)
    cache.write(0, torch.tensor([9, 3]), stored, stored)
    torch.testing.assert_close(cache.keys[0][2, :, 1], stored[0])
    torch.testing.assert_close(cache.values[0][0, :, 3], stored[1, :, :RANK])
    assert cache.num_bytes == SHAPE.bytes_per_token(torch.float32) * 12 == 48 * 4 * 12


def test_layers_get_something_in_place_of_a_cache_while_it_is_wanted() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kv_b_proj = projection()
            self.layer_idx = 3

        def forward(self, past_key_values: object = None) -> object:
            return past_key_values

    layer = Layer()
    layers = LatentLayers(SimpleNamespace(modules=lambda: [layer, layer.kv_b_proj]))
    assert layer(past_key_values=None) is layers.tokens[3]
    layers.close()
    layers.close()
    assert layer(past_key_values=None) is None
