"""Whether a model can run on the paged cache, found by trying: a few short sequences are computed
on it, which must not change the logits; a small copy is tried beyond everything that acts by
distance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.batching.compute.attention import attend_row
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.distances import distances
from llmserve.engines.batching.compute.kv_cache import NO_ATTENTION, LayerShape
from llmserve.engines.batching.compute.latent import LatentLayers
from llmserve.engines.batching.compute.miniature import TOKENS, NoMiniature, miniature
from llmserve.engines.batching.compute.paged_trial import (
    agrees_on_paged_cache,
    on_paged_cache,
    own_rounding,
)
from llmserve.engines.batching.compute.selection import SelectAll, most_selected
from llmserve.engines.batching.compute.state_pool import StateShape
from llmserve.engines.batching.compute.state_watch import declares_states, watched_states
from llmserve.engines.batching.compute.transformers_forward import variant_of
from llmserve.engines.weights.agreement import agree, probe
from llmserve.engines.weights.loading import LoadedModel
from llmserve.engines.weights.positions import position_switch

PROBE_TOKENS: Final = 24
NEAR: Final = 128
"""The model itself is tried beyond distances up to this, and beyond longer ones only its copy."""
BEYOND: Final = 8
MAX_WORK: Final = 2e11
"""Tokens × parameters that a CPU may take for it, seconds; up to `ALWAYS` tokens it is done."""
ALWAYS: Final = 72
LEAST_SAME: Final = 0.5
"""Share of the positions that must agree if rounding may choose other experts."""
ROUNDINGS: Final = 4
"""Logits may differ by so many times what the model's own do by rounding."""
MOST_ROUNDING: Final = 0.25
"""Of the range of the logits, in any precision."""

_numbers: Final = itertools.count(1)


class Unsupported(Exception):
    """The batching engine cannot run this model; the message says why."""


@torch.inference_mode()
def cache_shape(loaded: LoadedModel) -> CacheShape:
    """What the model keeps of each sequence.

    Raises:
        Unsupported: the model attends or positions tokens in a way that the cache cannot serve.
    """
    model, config = loaded.model, loaded.model.config
    if "device_map" in loaded.placement:
        raise Unsupported("its layers are spread over several devices")
    switch = position_switch(config)
    if switch is not None and switch < loaded.max_context:
        raise Unsupported(f"its positions change in prompts over {switch:,} tokens")
    selected = most_selected(config)
    if selected is not None and selected < loaded.max_context:
        raise Unsupported(
            f"it attends to a selection of {selected:,} tokens (index_topk), which the paged cache "
            f"does not make; with max_context = {selected} all are selected"
        )
    found = distances(config.get_text_config(decoder=True), loaded.max_context)
    shape, _ = _watched(model, probe(model, 1))
    is_right_in_miniature = _try_miniature(model, found, min(TOKENS, loaded.max_context))
    length = _length(loaded, found)
    expected, actual = _in_full(model, shape, length)
    if agree(expected, actual, loaded.precision) or (
        is_right_in_miniature and _is_rounding(loaded, expected, actual, length)
    ):
        return shape
    raise Unsupported("its answers are not the same on a paged cache")


def _is_rounding(
    loaded: LoadedModel, expected: torch.Tensor, actual: torch.Tensor, length: int
) -> bool:
    """Whether logits, (num_tokens, vocab) each, may differ by rounding although they do by much.
    The small copy, in float64, has shown that the model's code is right."""
    # With low precision, rounding sends some tokens of a mixture of experts to other experts.
    dtype, model = loaded.precision, loaded.model
    may_differ = dtype.itemsize < 4 and _has_experts(model.config)
    if may_differ and _share_of_same(expected, actual, dtype) >= LEAST_SAME:
        return True
    # Some models round a number to none below a threshold: their own answers differ, too.
    gap = (expected - actual).abs().max().item()
    most = min(MOST_ROUNDING, 10 * math.sqrt(torch.finfo(dtype).eps))
    extent = (expected.max() - expected.min()).item()
    return gap <= most * extent and gap <= ROUNDINGS * own_rounding(model, length)


def _length(loaded: LoadedModel, found: Mapping[str, int]) -> int:
    """How many tokens the model itself is tried with: beyond its distances, as far as that takes
    little time."""
    slow = loaded.device.type == "cpu"
    near = [n + BEYOND for n in found.values() if n <= NEAR]
    if slow:
        near = [n for n in near if n * loaded.parameters <= MAX_WORK or n <= ALWAYS]
    return min(max((PROBE_TOKENS, *near)), loaded.max_context)


def _in_full(model: Any, shape: CacheShape, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (num_tokens, vocab) of the model itself, by its own cache and by the paged one.

    Raises:
        Unsupported: the model raises on the paged cache.
    """
    try:
        pairs = [*on_paged_cache(model, shape, length, num_decoded=1)]
    # transformers and custom code raise whatever they like.
    except Exception as error:
        raise _untakeable(error) from error
    expected, actual = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return expected.float(), actual.float()


def _share_of_same(expected: torch.Tensor, actual: torch.Tensor, dtype: torch.dtype) -> float:
    """The share of positions whose logits, (length, vocab) each, are the same up to rounding."""
    same = [agree(*pair, dtype) for pair in zip(expected, actual, strict=True)]
    return sum(same) / len(same)


def _has_experts(config: Any) -> bool:
    values = config.get_text_config(decoder=True).to_dict()
    return any("experts" in k and isinstance(v, int) and v > 1 for k, v in values.items())


def _try_miniature(model: Any, found: Mapping[str, int], length: int) -> bool:
    """Try a small copy of the model, beyond all its distances if it has any. Returns whether a copy
    could be made.

    Raises:
        Unsupported: the answers change, or there are distances that cannot be tried; names them.
    """
    try:
        problem = _problem_in_miniature(model, found, length)
    except (NoMiniature, Unsupported) as reason:
        if not found:
            return False
        raise Unsupported(
            f"its {' and '.join(found)} could not be tried on a small copy: {reason}"
        ) from reason
    if problem is not None:
        raise Unsupported(problem)
    return True


def _problem_in_miniature(model: Any, found: Mapping[str, int], length: int) -> str | None:
    if _agrees_in_miniature(model, list(found), length):
        return None
    if not found or not _agrees_in_miniature(model, [], min(length, *found.values())):
        return "a small copy's answers are not the same on a paged cache"
    alone = [name for name in found if not _agrees_in_miniature(model, [name], length)]
    told = " and ".join(f"{name} of {found[name]:,}" for name in alone or found)
    return f"the paged cache does not follow its {told}"


def _agrees_in_miniature(model: Any, names: Sequence[str], length: int) -> bool:
    copy = miniature(model, names)
    shape, _ = _watched(copy, probe(copy, 1))
    return _agrees(copy, shape, length)


def _agrees(copy: Any, shape: CacheShape, length: int) -> bool:
    try:
        return agrees_on_paged_cache(copy, shape, length)
    # transformers and custom code raise whatever they like.
    except Exception as error:
        raise _untakeable(error) from error


def _watched(model: Any, token_ids: torch.Tensor) -> tuple[CacheShape, torch.Tensor]:
    """What the model keeps, and the logits (1, length, vocab) with its attention replaced."""
    config = model.config.get_text_config(decoder=True)
    selection, latents = SelectAll(model), LatentLayers(model)
    watcher = _Watcher(latents)
    previous = config._attn_implementation
    states: list[StateShape] = []
    try:
        model.set_attn_implementation(watcher.name)
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
        with watched_states(model) if declares_states(model) else nullcontext(states) as states:
            told = model(
                input_ids=token_ids, position_ids=positions, use_cache=False, **selection.arguments
            )
    except Unsupported:
        raise
    # As above.
    except Exception as error:
        raise _untakeable(error) from error
    finally:
        model.set_attn_implementation(previous)
        watcher.close()
        selection.close()
        latents.close()
    layers, attending = range(int(config.num_hidden_layers)), watcher.shapes.keys()
    if not states and declares_states(model):
        raise Unsupported("it keeps a state in a way of its own, not in transformers' cache")
    # Of a hybrid's layers, some do not attend.
    if not attending <= set(layers) or (len(attending) < len(layers) and not states):
        raise Unsupported(
            f"{len(attending)} of its {len(layers)} layers attend through transformers' interface"
        )
    found = (watcher.shapes.get(layer, NO_ATTENTION) for layer in layers)
    return CacheShape(tuple(found), tuple(states)), told.logits


def _untakeable(error: Exception) -> Unsupported:
    return Unsupported(f"it does not take another attention ({type(error).__name__}: {error})")


class _Watcher:
    """Attends in plain torch and records every layer's shape."""

    def __init__(self, latents: LatentLayers) -> None:
        self._latents = latents
        self.name = f"llmserve-probe-{next(_numbers)}"
        self.shapes: dict[int, LayerShape] = {}
        self._seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        AttentionInterface.register(self.name, self._attend)

    def close(self) -> None:
        """Release the name."""
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop(self.name, None)

    def _attend(
        self,
        module: Any,
        query: torch.Tensor,  # (1, query_heads, length, head_dim)
        key: torch.Tensor,  # (1, kv_heads, length, head_dim)
        value: torch.Tensor,  # (1, kv_heads, length, value_dim)
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        layer = getattr(module, "layer_idx", None)
        if layer is None or layer in self.shapes:
            raise Unsupported("some of its layers have the same number, or none")
        if key.shape[:3] != value.shape[:3]:
            raise Unsupported("its keys and values differ in number")
        if query.shape[1] % key.shape[1]:
            raise Unsupported("its heads do not fall into equal groups")
        self.shapes[layer] = self._shape(module, key, value)
        self._seen[layer] = key, value
        variant = variant_of(module, query.shape[-1], scaling, kwargs)
        result = attend_row(query[0].transpose(0, 1), key[0], value[0], variant)
        return result[None].contiguous(), None

    def _shape(self, module: Any, key: torch.Tensor, value: torch.Tensor) -> LayerShape:
        owner = self._owner(key, value)
        if owner is not None:
            return replace(self.shapes[owner], shared_with=owner)
        width, value_width = key.shape[3], value.shape[3]
        shape = LayerShape(key.shape[1], width, None if width == value_width else value_width)
        tokens = self._latents.tokens.get(module.layer_idx)
        widths = None if tokens is None else tokens.watched(module.kv_b_proj, key, value)
        if widths is None:
            return shape
        rank, rotated = widths
        return LayerShape(1, rank + rotated, rank, expanded=shape)

    def _owner(self, key: torch.Tensor, value: torch.Tensor) -> int | None:
        """The layer that made these keys and values, if an earlier one attended to them."""
        for layer, (earlier_key, earlier_value) in self._seen.items():
            if earlier_key is key and earlier_value is value:
                return layer
        return None
