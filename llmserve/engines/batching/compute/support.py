"""Whether a model can run on the paged cache, found by trying: its attention is taken over for one
short prompt, and the logits must stay what they were."""

from __future__ import annotations

import itertools
from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmserve.engines.agreement import agree, probe
from llmserve.engines.batching.compute.attention import attend_row
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.batching.compute.transformers_forward import variant_of
from llmserve.engines.loading import LoadedModel
from llmserve.engines.positions import position_switch

PROBE_TOKENS: Final = 24

_numbers: Final = itertools.count(1)


class Unsupported(Exception):
    """The batching engine cannot run this model; the message says why."""


@torch.inference_mode()
def layer_shapes(loaded: LoadedModel) -> tuple[LayerShape, ...]:
    """What each layer of the model keeps in the cache.

    Raises:
        Unsupported: the model attends, or places tokens, in a way that the cache does not know.
    """
    model, config = loaded.model, loaded.model.config
    text_config = config.get_text_config(decoder=True)
    if "device_map" in loaded.placement:
        raise Unsupported("its layers are spread over several devices")
    switch = position_switch(config)
    if switch is not None and switch < loaded.max_context:
        raise Unsupported(f"its positions change in prompts over {switch:,} tokens")
    if getattr(model, "_is_stateful", False):
        raise Unsupported("it keeps a state that is no KV cache")
    length = min(PROBE_TOKENS, loaded.max_context)
    token_ids = probe(model, length)
    expected = model(input_ids=token_ids, use_cache=False).logits[0]
    watcher = _Watcher()
    previous = text_config._attn_implementation
    try:
        model.set_attn_implementation(watcher.name)
        actual = model(
            input_ids=token_ids,
            position_ids=torch.arange(length, device=loaded.device)[None],
            use_cache=False,
        ).logits[0]
    # transformers and custom code raise whatever they like.
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported(
            f"it does not take another attention ({type(error).__name__}: {error})"
        ) from error
    finally:
        model.set_attn_implementation(previous)
        watcher.close()
    layers = int(text_config.num_hidden_layers)
    if sorted(watcher.shapes) != list(range(layers)):
        raise Unsupported(
            f"{len(watcher.shapes)} of its {layers} layers attend through transformers' interface"
        )
    if not agree(expected.float(), actual.float(), model.dtype):
        raise Unsupported("its answers are not the same on a paged cache")
    return tuple(watcher.shapes[layer] for layer in range(layers))


class _Watcher:
    """Attends in plain torch and notes every layer's shape."""

    def __init__(self) -> None:
        self.name = f"llmserve-probe-{next(_numbers)}"
        self.shapes: dict[int, LayerShape] = {}
        AttentionInterface.register(self.name, self._attend)

    def close(self) -> None:
        """Give the name back."""
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop(self.name, None)

    def _attend(
        self,
        module: Any,
        query: torch.Tensor,  # (1, query_heads, length, head_dim)
        key: torch.Tensor,  # (1, kv_heads, length, head_dim)
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        layer = getattr(module, "layer_idx", None)
        if layer is None or layer in self.shapes:
            raise Unsupported("its layers share keys and values, or have no number")
        if key.shape != value.shape:
            raise Unsupported("its keys and values differ in shape")
        if query.shape[1] % key.shape[1]:
            raise Unsupported("its heads do not fall into equal groups")
        self.shapes[layer] = LayerShape(kv_heads=key.shape[1], head_dim=key.shape[3])
        variant = variant_of(query.shape[-1], scaling, kwargs)
        return attend_row(query[0].transpose(0, 1), key[0], value[0], variant)[None], None
