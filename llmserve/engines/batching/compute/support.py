"""Whether a model can run on the paged cache, found by trying: its attention is replaced for one
short prompt, which must not change the logits; a small copy is tried on the cache itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.batching.compute.attention import attend_row
from llmserve.engines.batching.compute.distances import distances
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.latent import LatentLayers
from llmserve.engines.batching.compute.miniature import TOKENS, NoMiniature, miniature
from llmserve.engines.batching.compute.paged_trial import agrees_on_paged_cache
from llmserve.engines.batching.compute.selection import SelectAll, most_selected
from llmserve.engines.batching.compute.transformers_forward import variant_of
from llmserve.engines.weights.agreement import agree, probe
from llmserve.engines.weights.loading import LoadedModel
from llmserve.engines.weights.positions import position_switch

PROBE_TOKENS: Final = 24
NEAR: Final = 64
"""The model itself is tried beyond distances up to this, and beyond longer ones only its copy."""
BEYOND: Final = 8
LEAST_SAME: Final = 0.5
"""Share of the positions that must agree if rounding may choose other experts."""

_numbers: Final = itertools.count(1)


class Unsupported(Exception):
    """The batching engine cannot run this model; the message says why."""


@torch.inference_mode()
def layer_shapes(loaded: LoadedModel) -> tuple[LayerShape, ...]:
    """What each layer of the model stores in the cache.

    Raises:
        Unsupported: the model attends or positions tokens in a way that the cache cannot serve.
    """
    model, config = loaded.model, loaded.model.config
    if "device_map" in loaded.placement:
        raise Unsupported("its layers are spread over several devices")
    switch = position_switch(config)
    if switch is not None and switch < loaded.max_context:
        raise Unsupported(f"its positions change in prompts over {switch:,} tokens")
    if getattr(model, "_is_stateful", False):
        raise Unsupported("it keeps a state that is no KV cache")
    selected = most_selected(config)
    if selected is not None and selected < loaded.max_context:
        raise Unsupported(
            f"it attends to a selection of {selected:,} tokens (index_topk), which the paged cache "
            f"does not make; with max_context = {selected} all are selected"
        )
    found = distances(config.get_text_config(decoder=True), loaded.max_context)
    near = [number + BEYOND for number in found.values() if number <= NEAR]
    token_ids = probe(model, min(max((PROBE_TOKENS, *near)), loaded.max_context))
    expected = model(input_ids=token_ids, use_cache=False).logits[0]
    shapes, actual = _watched(model, token_ids)
    is_right_in_miniature = _try_miniature(model, found, min(TOKENS, loaded.max_context))
    expected, actual = expected.float(), actual[0].float()
    # With low precision, rounding sends some tokens of a mixture of experts to other experts. The
    # small copy, in float64, has shown that its code is right.
    may_differ = model.dtype.itemsize < 4 and is_right_in_miniature and _has_experts(config)
    if not agree(expected, actual, model.dtype) and not (
        may_differ and _share_of_same(expected, actual, model.dtype) >= LEAST_SAME
    ):
        raise Unsupported("its answers are not the same on a paged cache")
    return shapes


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
    shapes, _ = _watched(copy, probe(copy, 1))
    try:
        return agrees_on_paged_cache(copy, shapes, length)
    # transformers and custom code raise whatever they like.
    except Exception as error:
        raise _untakeable(error) from error


def _watched(model: Any, token_ids: torch.Tensor) -> tuple[tuple[LayerShape, ...], torch.Tensor]:
    """What each layer stores, and the logits (1, length, vocab) with its attention replaced."""
    config = model.config.get_text_config(decoder=True)
    selection, latents = SelectAll(model), LatentLayers(model)
    watcher = _Watcher(latents)
    previous = config._attn_implementation
    try:
        model.set_attn_implementation(watcher.name)
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
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
    layers = int(config.num_hidden_layers)
    if sorted(watcher.shapes) != list(range(layers)):
        raise Unsupported(
            f"{len(watcher.shapes)} of its {layers} layers attend through transformers' interface"
        )
    return tuple(watcher.shapes[layer] for layer in range(layers)), told.logits


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
