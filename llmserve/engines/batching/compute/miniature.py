"""A small copy of a model: its own code and its pattern of layers, narrow and with random weights.

Every number that acts by distance is small, so that a short prompt exceeds it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from llmserve.engines.batching.compute.distances import is_other_model

DISTANCES: Final = (5, 4)
"""The values of distances, in turns: the product of two is still within `TOKENS`."""
TOKENS: Final = 32
CACHES: Final = ("past_key_values", "cache_params")
"""What families call the cache among their results, and among their arguments."""
WIDTH: Final = 64
NOISE: Final = 0.1
LEAST_SPREAD: Final = 0.1
"""Standard deviation of matrices."""
MAX_PARAMETERS: Final = 50_000_000

_QUERY_HEADS: Final = re.compile(
    r"^(swa_)?(num_attention_heads|num_heads|n_heads?)$|^(en|de)coder_attention_heads$"
)
_KV_HEADS: Final = re.compile(r"^(swa_)?(num_(global_)?key_value_heads|num_kv_heads|n_head_kv)$")
_STATE_HEADS: Final = re.compile(r"^linear_num_((key|value)_)?heads$")
_SCAN_HEADS: Final = (
    ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_expand"),
    ("n_mamba_heads", "mamba_headdim", "mamba_ngroups", "mamba_expand"),
    ("num_heads", "head_dim", "n_groups", "expand"),
)
"""Heads of a state space, which may follow from the width: names of their number, of their size, of
the number of groups and of what the width is multiplied with."""
_WIDTHS: Final = re.compile(r"^(hidden_size|n_embd|d_model|word_embed_proj_dim)$")
_LIMITS: Final = (
    (re.compile(r"vocab_size"), 512),
    (re.compile(r"intermediate_size|ffn|n_inner|hidden_size_per_layer"), 64),
    (re.compile(r"experts_per_tok|moe_topk|top_k_experts|moe_k$"), 2),
    (re.compile(r"num_(local_)?experts$|n_routed_experts$"), 4),
    (re.compile(r"^(n_group|topk_group|num_expert_group)$"), 1),
)


class NoMiniature(Exception):
    """No small copy can be made; the message tells why."""


class Miniature:
    """A model's decoder, small. Returns hidden states where a causal model returns logits."""

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._decoder = decoder
        self.config = decoder.config
        self.dtype = decoder.dtype
        self.device = decoder.device
        self.get_input_embeddings = decoder.get_input_embeddings
        self.set_attn_implementation = decoder.set_attn_implementation
        self.modules = decoder.modules
        self.named_modules = decoder.named_modules
        self.get_submodule = decoder.get_submodule
        self._is_stateful = getattr(decoder, "_is_stateful", False)

    def __call__(
        self, *, logits_to_keep: torch.Tensor | None = None, **arguments: Any
    ) -> SimpleNamespace:
        """Takes what the decoder takes. `logits` are hidden states, (1, num_tokens, width)."""
        told = self._decoder(**arguments)
        # In a few families the decoder is the causal model itself.
        hidden = told.last_hidden_state if "last_hidden_state" in told else told.logits
        return SimpleNamespace(
            logits=hidden if logits_to_keep is None else hidden[:, logits_to_keep],
            **caches(told),
        )


def caches(told: Any) -> dict[str, Any]:
    """The cache among a model's results, by the name of the argument that takes it."""
    return {name: getattr(told, name) for name in CACHES if hasattr(told, name)}


def miniature(model: Any, distances: Collection[str]) -> Miniature:
    """A small copy of a transformers model's decoder in float64 on the CPU; the numbers of its
    config that are named in `distances` become those of `DISTANCES`.

    Raises:
        NoMiniature: its config has shapes of a kind that is not known here.
    """
    try:
        candidates = (model.get_decoder(), model.base_model)
        decoder = next((found for found in candidates if isinstance(found, PreTrainedModel)), model)
        kind = type(decoder)
        config = type(decoder.config).from_dict(_shrunk(decoder.config.to_dict(), distances))
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in kind(config).parameters())
        if size > MAX_PARAMETERS:
            raise NoMiniature(f"a small copy would still have {size:,} parameters")
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            # With less precision, rounding could choose other experts.
            copy = kind(config).double().eval()
            _unsettle(copy)
            if copy._can_set_experts_implementation():
                copy.set_experts_implementation("eager")
    except NoMiniature:
        raise
    # transformers and custom code raise whatever they like.
    except Exception as error:
        raise NoMiniature(f"{type(error).__name__}: {error}") from error
    return Miniature(copy)


@torch.no_grad()
def _unsettle(model: torch.nn.Module) -> None:
    """Let everything matter: parameters that begin as one number, such as biases and gates, get a
    spread, and small ones, such as the positions of some families, a larger one."""
    for parameter in model.parameters():
        spread = parameter.std(correction=0).item() if parameter.numel() else 1.0
        if spread == 0.0:
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
        elif parameter.ndim > 1 and spread < LEAST_SPREAD:
            parameter.mul_(LEAST_SPREAD / spread)


def _shrunk(values: dict[str, Any], distances: Collection[str]) -> dict[str, Any]:
    """A config's values, with its sizes and these distances made small."""
    heads, width = _first(values, _QUERY_HEADS), _first(values, _WIDTHS)
    if heads is None and "state_size" in values:
        heads = 1  # a model without attention
    if heads is None or width is None:
        raise NoMiniature("its config has no width or no number of heads under a known name")
    fewer, head_dim = min(heads, 2), values.get("head_dim") or width // heads
    # Some models choose their head size; in others it follows from the width, stated or not.
    narrow = fewer * head_dim if heads * head_dim == width else WIDTH

    state_heads = _all(values, _STATE_HEADS)
    near = dict(zip(sorted(distances), itertools.cycle(DISTANCES), strict=False))

    def resized(name: str, value: int) -> int:
        if name in near:
            return min(value, near[name])
        if _QUERY_HEADS.search(name):
            return fewer
        if _KV_HEADS.search(name):
            return fewer if value == heads else 1
        if _STATE_HEADS.search(name):
            return min(value, 2 * value // min(state_heads))
        if _WIDTHS.search(name):
            return narrow
        return min(value, next((most for names, most in _LIMITS if names.search(name)), value))

    def shrunk(name: str, value: Any) -> Any:
        """Every integer in a value, by its own name or that of the list or distances it is in."""
        if isinstance(value, int) and not isinstance(value, bool):
            return resized(name, value)
        if isinstance(value, list | tuple):
            return [shrunk(name, item) for item in value]
        if isinstance(value, Mapping) and not is_other_model(name):
            return {k: shrunk(name if name in near else str(k), v) for k, v in value.items()}
        return value

    small = {name: shrunk(name, value) for name, value in values.items()}
    _fit_scan_heads(small, values, width, narrow)
    if isinstance(small.get("pad_token_id"), int):
        small["pad_token_id"] = 0  # one that is in the vocabulary
    if "initializer_range" in small:
        # So that scores differ enough for a token that should be masked to show.
        small["initializer_range"] = narrow**-0.5
    return small


def _fit_scan_heads(
    small: dict[str, Any], values: Mapping[str, Any], width: int, narrow: int
) -> None:
    """Have the heads of a state space follow from the new width if they did from the old one."""
    for number, size, groups, factor in _SCAN_HEADS:
        if not {number, size, groups, factor} <= values.keys() or values.get("mamba_d_ssm"):
            continue
        if values[number] * values[size] == int(values[factor] * width):
            small[size] = min(values[size], narrow)
            small[number] = int(values[factor] * narrow) // small[size]
            small[groups] = 2 if values[groups] > 1 and small[number] % 2 == 0 else 1


def _all(values: Mapping[str, Any], names: re.Pattern[str]) -> list[int]:
    return [v for k, v in values.items() if names.search(k) and isinstance(v, int)]


def _first(values: Mapping[str, Any], names: re.Pattern[str]) -> int | None:
    return next(iter(_all(values, names)), None)
