"""Pinned prefixes: KV caches of prompt beginnings that many requests share.

Knows how a cache is computed, checked, copied and bounded, but not who asked for it or uses it.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from llmserve.engines.weights.agreement import agree
from llmserve.engines.weights.loading import LoadedModel
from llmserve.engines.weights.positions import position_switch

MAX_PREFIXES: Final = 16
MAX_BYTES: Final = 2 * 2**30

PROBE_TOKENS: Final = 4
"""How many tokens the check's prompt has after the prefix."""

CHECKED_TOKENS: Final = 4
"""How many tokens the check generates with and without the cache."""

GROWS_BY_CONCATENATION: Final = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers that replace their tensors and never write into them: copies may share them."""


class PrefixRefused(Exception):
    """A prefix cannot be pinned; the message says why. Requests are served without it."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A prefix and its cache, which is copied for each use and never written to."""

    token_ids: tuple[int, ...]
    cache: Any
    num_bytes: int

    def begins(self, prompt_ids: Sequence[int]) -> bool:
        """Whether a prompt starts with it and has at least one more token, which prefill needs."""
        length = len(self.token_ids)
        return length < len(prompt_ids) and tuple(prompt_ids[:length]) == self.token_ids

    def copy_cache(self) -> Any:
        """A copy of the cache for one `generate` call, which may extend it."""
        fresh = copy.copy(self.cache)
        fresh.layers = [
            copy.copy(layer) if type(layer) in GROWS_BY_CONCATENATION else copy.deepcopy(layer)
            for layer in self.cache.layers
        ]
        return fresh


class PinnedPrefixes:
    """Bounded in number and bytes; the oldest are evicted. May be used from any thread."""

    def __init__(self, max_prefixes: int = MAX_PREFIXES, max_bytes: int = MAX_BYTES) -> None:
        self._max_prefixes = max_prefixes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pinned: OrderedDict[tuple[int, ...], Pinned] = OrderedDict()

    def __contains__(self, token_ids: tuple[int, ...]) -> bool:
        with self._lock:
            return token_ids in self._pinned

    @property
    def bounds(self) -> str:
        """The bounds, as text."""
        return f"at most {self._max_prefixes} prefixes and {self._max_bytes:,} bytes are kept"

    @property
    def num_bytes(self) -> int:
        """Memory of all caches."""
        with self._lock:
            return self._num_bytes()

    def add(self, pinned: Pinned) -> None:
        """Add a prefix, evicting older ones if necessary.

        Raises:
            PrefixRefused: it alone exceeds the bound in bytes.
        """
        if pinned.num_bytes > self._max_bytes:
            raise PrefixRefused(f"its cache has {pinned.num_bytes:,} bytes; {self.bounds}")
        with self._lock:
            self._pinned[pinned.token_ids] = pinned
            self._pinned.move_to_end(pinned.token_ids)
            while len(self._pinned) > self._max_prefixes or self._num_bytes() > self._max_bytes:
                self._pinned.popitem(last=False)

    def renew(self, token_ids: tuple[int, ...]) -> bool:
        """Make a prefix the newest; `False` if it is not pinned."""
        with self._lock:
            if token_ids in self._pinned:
                self._pinned.move_to_end(token_ids)
                return True
            return False

    def longest_match(self, prompt_ids: Sequence[int]) -> Pinned | None:
        """The longest prefix of the prompt that is pinned and shorter than it."""
        with self._lock:
            matches = [pinned for pinned in self._pinned.values() if pinned.begins(prompt_ids)]
        return max(matches, key=lambda pinned: len(pinned.token_ids), default=None)

    def clear(self) -> None:
        """Drop all prefixes."""
        with self._lock:
            self._pinned.clear()

    def _num_bytes(self) -> int:
        return sum(pinned.num_bytes for pinned in self._pinned.values())


@torch.inference_mode()
def pin(model: LoadedModel, token_ids: tuple[int, ...]) -> Pinned:
    """Compute a prefix's cache, and check that the model gives the same answers with it. Blocks.

    Raises:
        PrefixRefused: too long, or the model's answers would not be the same.
    """
    _refuse_what_cannot_work(model, token_ids)
    cache = getattr(_generate(model, token_ids, max_tokens=1), "past_key_values", None)
    if not isinstance(cache, DynamicCache):
        raise PrefixRefused(f"this model uses a {type(cache).__name__}, which cannot be copied")
    for layer in cache.layers:
        if type(layer) is DynamicSlidingWindowLayer and layer.is_initialized:
            # The window is a view that would keep the whole prefix in memory.
            layer.keys, layer.values = layer.keys.clone(), layer.values.clone()
    num_bytes = sum(tensor.nbytes for layer in cache.layers for tensor in _tensors(vars(layer)))
    pinned = Pinned(token_ids, cache, num_bytes)
    if not _answers_the_same(model, pinned):
        raise PrefixRefused("this model's answers are not the same when its cache is reused")
    return pinned


def _refuse_what_cannot_work(model: LoadedModel, token_ids: tuple[int, ...]) -> None:
    if not token_ids:
        raise PrefixRefused("prompts that begin with it have no first token in common; lengthen it")
    room = model.max_context - PROBE_TOKENS - CHECKED_TOKENS
    if len(token_ids) > room:
        raise PrefixRefused(
            f"it has {len(token_ids):,} tokens, more than the {room:,} which leave room for an "
            f"answer in the context of {model.max_context:,}; shorten it"
        )
    switch = position_switch(model.model.config)
    if switch is not None and switch < model.max_context:
        # The cached keys are those of a short prompt; a long one needs others throughout.
        raise PrefixRefused(
            f"this model's positions change in prompts over {switch:,} tokens; "
            f"set max_context to {switch} or less"
        )


def _generate(
    model: LoadedModel, token_ids: Sequence[int], max_tokens: int, cache: Any = None
) -> Any:
    """Greedy tokens, and their logits as a list of (1, vocab)."""
    # input_ids, (1, prompt_tokens)
    input_ids = torch.tensor([token_ids], dtype=torch.long, device=model.device)
    return model.model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            pad_token_id=model.pad_id,
            use_cache=True,
            return_dict_in_generate=True,
            output_logits=True,
        ),
        **({} if cache is None else {"past_key_values": cache}),
    )


def _answers_the_same(model: LoadedModel, pinned: Pinned) -> bool:
    """Whether a short probe gets the same logits with the cache and without, up to rounding.

    Rounding affects half of the digits of the model's dtype. A tie within that may be decided
    either way; the tokens after it cannot be compared.
    """
    probe = (pinned.token_ids * PROBE_TOKENS)[:PROBE_TOKENS]
    prompt = (*pinned.token_ids, *probe)
    plain = _generate(model, prompt, CHECKED_TOKENS)
    cached = _generate(model, prompt, CHECKED_TOKENS, pinned.copy_cache())
    for expected, actual in zip(plain.logits, cached.logits, strict=True):  # (1, vocab) each
        if not agree(expected, actual, model.model.dtype):
            return False
        if int(expected.argmax()) != int(actual.argmax()):
            break
    return True


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """Every tensor in the fields of a cache's layer."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict):
        for value in held.values():
            yield from _tensors(value)
    elif isinstance(held, list | tuple):
        for value in held:
            yield from _tensors(value)
