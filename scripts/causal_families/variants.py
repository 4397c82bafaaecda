"""Other configs of a family, at random: windows, chunks, patterns of layers, positions, groups of
heads, whatever may be on or off. What such a model is served by must be right, too."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from causal_families.distances import DISTANCES

_SHARE: Final = 0.25
"""Of the switches that are thrown."""
_LENGTHS: Final = (2, 3, 7, 8, 16, 23, 32, 33, 57)
_KEPT: Final = re.compile(r"use_cache|return_dict|output_|is_|kernel|pruned|tie_encoder|_scan$")
_SOFTCAPS: Final = re.compile(r"softcap|soft_cap")
_CHOSEN: Final = {"sliding_attention", "full_attention"}


def varied(values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A config's values, changed; the same seed changes the same."""
    return _varied(values, random.Random(seed))


def _varied(values: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    changed = {name: _value(name, value, chance) for name, value in values.items()}
    heads = values.get("num_attention_heads")
    if values.get("num_key_value_heads") and heads and chance.random() < _SHARE:
        changed["num_key_value_heads"] = chance.choice([n for n in (1, 2, heads) if heads % n == 0])
    rope = values.get("rope_parameters")
    if isinstance(rope, Mapping):
        size = values.get("head_dim") or values.get("hidden_size", 0) // (heads or 1)
        changed["rope_parameters"] = {
            name: _rope(part, size, chance)
            for name, part in rope.items()
            if isinstance(part, Mapping)
        } or _rope(rope, size, chance)
    return changed


def _value(name: str, value: Any, chance: random.Random) -> Any:
    if name in ("text_config", "decoder"):
        return _varied(value, chance)
    if isinstance(value, bool):
        return value if _KEPT.search(name) or chance.random() > _SHARE else not value
    if isinstance(value, int) and any(names.search(name) for names, _ in DISTANCES):
        return chance.choice(_LENGTHS)
    if name == "layer_types" and value and set(value) <= _CHOSEN:
        return [chance.choice(sorted(_CHOSEN)) for _ in value]
    if _SOFTCAPS.search(name) and (value is None or isinstance(value, float)):
        return chance.choice((value, 1.0, 5.0))
    return value


def _rope(parameters: Mapping[str, Any], size: int, chance: random.Random) -> dict[str, Any]:
    """Positions of another kind, with the same base."""
    # Those that switch within the context are for threads: fewer of them.
    kind = chance.choice((*("default", "linear", "yarn", "llama3") * 2, "dynamic", "longrope"))
    kept = {
        name: parameters[name]
        for name in ("rope_theta", "partial_rotary_factor")
        if name in parameters
    }
    rotated = int(size * parameters.get("partial_rotary_factor", 1.0)) // 2
    own: dict[str, Any] = {
        "default": {},
        "linear": {"factor": 3.0},
        "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
        "llama3": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "dynamic": {"factor": 2.0, "original_max_position_embeddings": 64},
        "longrope": {
            "factor": 4.0,
            "short_factor": [1.0] * rotated,
            "long_factor": [1.0 + n for n in range(rotated)],
            "original_max_position_embeddings": 64,
        },
    }[kind]
    return {"rope_type": kind} | kept | own
