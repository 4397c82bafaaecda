"""Runs any model of transformers on our cache, its own code unchanged.

Our attention is registered with transformers under a name of its own. The tokens of all rows pass
through the model as one sequence, and only attention knows where a row begins.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.adapters.segment import Segment
from llmserve.engines.batching.compute.attention import Attention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.counted_tokens import CountedTokens, counts_tokens
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.latent import Latent, LatentLayers
from llmserve.engines.batching.compute.recurrent import RecurrentLayers
from llmserve.engines.batching.compute.selection import SelectAll
from llmserve.engines.batching.compute.state_pool import StateShape

PADDING_WARNING: Final = "warn_if_padding_and_no_attention_mask"
_names: Final[set[str]] = set()
"""In use by models that are loaded. Models are closed on several threads: `_naming` guards it."""
_naming: Final = threading.Lock()


class TransformersForward:
    """A `Forward` through the model's own modules, of which some may have `states`. `close`
    releases the name of its attention."""

    def __init__(self, model: Any, attention: Attention, states: Sequence[StateShape] = ()) -> None:
        self._model = model
        self._attention = attention
        self._step: tuple[Batch, KVCache] | None = None
        self._is_closed = False
        self._previous = model.config.get_text_config(decoder=True)._attn_implementation
        self._counts_tokens = counts_tokens(model.config)
        own = getattr(model, "forward", model)  # a small copy has none
        self._takes_rows = "logits_to_keep" in inspect.signature(own).parameters
        self._selection = SelectAll(model)
        self._latent_layers = LatentLayers(model)
        self._latents: dict[int, Latent] = {}
        self._name = _take_name()
        AttentionInterface.register(self._name, self._attend)
        model.set_attn_implementation(self._name)
        # It looks for padding, of which flat tokens have none, and waits for the device to do so.
        self._warners = [module for module in model.modules() if hasattr(module, PADDING_WARNING)]
        for module in self._warners:
            setattr(module, PADDING_WARNING, _no_warning)
        self._recurrent = RecurrentLayers(model, states) if states else None

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """Logits of the sampled positions, (num_sampled, vocab) float32, contiguous."""
        arguments: dict[str, Any] = self._selection.arguments
        if self._takes_rows:
            arguments = arguments | {"logits_to_keep": batch.sampled}
        if self._counts_tokens:
            arguments = arguments | {"past_key_values": CountedTokens(batch.positions)}
        self._step = (batch, cache)
        if self._recurrent is not None:
            assert cache.states is not None, "a model with states has a pool"
            assert batch.states is not None, "a model with states has rows of it"
            self._recurrent.begin(cache.states, batch.states)
        try:
            logits = self._model(
                input_ids=batch.token_ids[None],
                position_ids=batch.positions[None],
                use_cache=False,
                **arguments,
            ).logits
        finally:
            self._step = None
            if self._recurrent is not None:
                self._recurrent.end()
        if not self._takes_rows:
            logits = logits[:, batch.sampled]
        # In some models the logits are a view of a larger tensor.
        return logits[0].float().contiguous()  # type: ignore[no-any-return]  # the model is Any

    def close(self) -> None:
        """The model uses its former attention again. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._selection.close()
        self._latent_layers.close()
        for module in self._warners:
            delattr(module, PADDING_WARNING)
        if self._recurrent is not None:
            self._recurrent.close()
        self._model.set_attn_implementation(self._previous)
        with _naming:
            ALL_ATTENTION_FUNCTIONS._global_mapping.pop(self._name, None)
            _names.discard(self._name)

    def segments(self) -> tuple[Segment, ...]:
        """Which rows of what a layer computes have which adapter."""
        if self._step is None:
            return ()
        segments = self._step[0].segments
        return segments if self._recurrent is None else self._recurrent.segments(segments)

    def _attend(
        self,
        module: Any,
        query: torch.Tensor,  # (1, query_heads, num_tokens, head_dim)
        key: torch.Tensor,  # (1, kv_heads, num_tokens, head_dim)
        value: torch.Tensor,  # (1, kv_heads, num_tokens, value_dim)
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        assert self._step is not None, "attention outside a step"
        batch, cache = self._step
        layer = module.layer_idx
        shape = cache.layers[layer]
        variant = variant_of(module, query.shape[-1], scaling, kwargs)
        if shape.expanded is not None:
            variant = replace(variant, latent=self._latent(module, shape, value))
        if shape.shared_with is None:
            keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
            if shape.expanded is not None:
                keys = values = self._latent_layers.tokens[layer].take()
            cache.write(layer, batch.slots, keys, values)
        result = self._attention.attend(cache, layer, batch, query[0].transpose(0, 1), variant)
        # Some models view it in another shape.
        return result[None].contiguous(), None

    def _latent(self, module: Any, shape: LayerShape, value: torch.Tensor) -> Latent:
        """The matrices of the layer, or of the one that it shares keys and values with."""
        layer = module.layer_idx if shape.shared_with is None else shape.shared_with
        if layer not in self._latents:
            self._latents[layer] = Latent.of(module.kv_b_proj, shape.value_width, value)
        return self._latents[layer]


def _take_name() -> str:
    """The first that is free: compiled code is cached by this name, so that a reload finds it."""
    with _naming:
        name = next(n for i in itertools.count(1) if (n := f"llmserve-{i}") not in _names)
        _names.add(name)
        return name


def _no_warning(*args: Any) -> None:
    return None


def variant_of(
    module: Any, head_dim: int, scaling: float | None, arguments: dict[str, Any]
) -> Variant:
    """How a layer attends, from its config and the arguments that transformers passes to an
    attention function. Only masks, of which there are none here, have chunks."""
    config: Any = getattr(module, "config", None)
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk is not None and config.layer_types[module.layer_idx] != "chunked_attention":
        chunk = None
    return Variant(
        scale=head_dim**-0.5 if scaling is None else scaling,
        window=arguments.get("sliding_window"),
        chunk=chunk,
        softcap=arguments.get("softcap"),
        sinks=arguments.get("s_aux"),
    )
