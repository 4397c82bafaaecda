"""Which modules of a model keep states, and of what shape: found by watching one prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from llmserve.engines.batching.compute.recurrent import cache_argument, replace_forward
from llmserve.engines.batching.compute.state_pool import StateShape
from llmserve.engines.batching.compute.state_view import StateView


def declares_states(model: Any) -> bool:
    """Whether transformers says that a model keeps more than keys and values."""
    if getattr(model, "_is_stateful", False):
        return True
    try:
        layers = DynamicCache(config=model.config).layers
    # Custom configs raise whatever they like: transformers has no such cache for them.
    except Exception:
        return False
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


@contextlib.contextmanager
def watched_states(model: Any) -> Iterator[list[StateShape]]:
    """Prompts begin meanwhile, and the list gets the states that modules keep of the first."""
    found: dict[tuple[str, str], StateShape] = {}
    shapes: list[StateShape] = []
    modules = [(name, module) for name, module in model.named_modules() if _takes_cache(module)]
    undos = [replace_forward(each, _watching(name, each, found)) for name, each in modules]
    try:
        yield shapes
    finally:
        for undo in undos:
            undo()
        shapes += found.values()


class _WatchedView(StateView):
    """What attention layers see, too: they store nothing."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new ones are all there are."""
        return key_states, value_states

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"it asks its cache for {name}")

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Nothing came before."""
        return 0


def _takes_cache(module: nn.Module) -> bool:
    return not isinstance(module, PreTrainedModel) and cache_argument(module) is not None


def _watching(
    name: str, module: nn.Module, found: dict[tuple[str, str], StateShape]
) -> Callable[..., Any]:
    own = module.forward
    argument = cache_argument(module)
    assert argument is not None, "only such modules are watched"
    cache, place = argument

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = args[place] if len(args) > place else kwargs.get(cache)
        if given is not None and not isinstance(given, _WatchedView):
            return own(*args, **kwargs)  # what attends has something else in place of a cache
        view = _WatchedView(None)
        if len(args) > place:
            args = (*args[:place], view, *args[place + 1 :])
        else:
            kwargs[cache] = view
        result = own(*args, **kwargs)
        for key, state in view.states.items():
            shape = StateShape(name, key, tuple(state.shape[1:]), state.dtype)
            found.setdefault((name, key), shape)
        return result

    return forward
