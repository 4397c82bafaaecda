"""How much memory a model needs, estimated from its files alone. Knows no torch and no device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.weights.checkpoint import (
    NoCheckpoint,
    checkpoint_in,
    files_in,
    likely_weights,
)
from llmserve.engines.weights.purpose import purposes_of, transformer_folder
from llmserve.engines.weights.recurrent_config import num_attending, state_bytes

CACHE_TOKENS: Final = 2048
"""Per running request, or the model's whole context if that is shorter."""
THREADED_SLOTS: Final = 4
CPU_SLOTS: Final = 32
GPU_SLOTS: Final = 256
ENCODING_SLOTS: Final = 256
"""Requests whose inputs are in one line; they cost no memory of the device."""
BYTES: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one worker needs for one model."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        """Weights, and KV cache with states."""
        return self.weights + self.cache


def slots(kind: EngineKind, max_running: int | None, device: str = "cpu") -> int:
    """How many requests run at once: as asked for, or the engine's default."""
    if max_running is not None:
        return max_running
    if kind is EngineKind.THREADED:
        return THREADED_SLOTS
    if kind is EngineKind.ENCODING:
        return ENCODING_SLOTS
    return GPU_SLOTS if device == "cuda" else CPU_SLOTS


def footprint(
    spec: ModelSpec, max_running: int | None, kv_cache_bytes: int | None = None
) -> Footprint | None:
    """An estimate; `None` if the weights are not on this machine yet, or never will be.

    The KV cache has the size that was asked for, or 2 (keys, values) × layers that attend × KV
    heads × head size × bytes per number × tokens, with `CACHE_TOKENS` tokens for each request that
    runs at once. Recurrent states come on top: two for each, as a step writes the new one beside
    the old. On a GPU the batching engine takes more if it is free. A model that encodes has none.
    """
    if spec.path is None:
        return None
    folder, encodes = spec.path, bool(purposes_of(spec))
    if encodes:
        folder = transformer_folder(folder)
    stored = stored_bytes(folder)
    if stored == 0:
        return None
    config = _config(folder)
    stored_size = _size(config.get("dtype") or config.get("torch_dtype"))
    size = BYTES.get(spec.dtype, stored_size)
    tokens = min(CACHE_TOKENS, spec.max_context or _number(config, "max_position_embeddings"))
    running = slots(spec.engine, max_running)
    cache = _cache_bytes_per_token(config, size) * tokens * running
    if kv_cache_bytes is not None and spec.engine is not EngineKind.THREADED:
        cache = kv_cache_bytes
    cache += 2 * running * state_bytes(config, size)
    return Footprint(weights=stored * size // stored_size, cache=0 if encodes else cache)


def stored_bytes(folder: Path) -> int:
    """Size of the weights in a model's folder, or of files that look like them; 0 without any."""
    try:
        names: Sequence[str] = checkpoint_in(folder).files
    except NoCheckpoint:
        names = likely_weights(files_in(folder))
    return sum((folder / name).stat().st_size for name in names)


def _cache_bytes_per_token(config: dict[str, Any], size: int) -> int:
    layers = num_attending(config)
    heads = _number(config, "num_attention_heads", "n_head", default=0)
    if not layers or not heads:
        return 0
    kv_heads = _number(config, "num_key_value_heads", default=heads)
    hidden = _number(config, "hidden_size", "n_embd", default=0)
    head_size = _number(config, "head_dim", default=hidden // heads)
    return 2 * layers * kv_heads * head_size * size


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    nested = config.get("text_config")
    return config | nested if isinstance(nested, dict) else config


def _size(dtype: object) -> int:
    return BYTES.get(str(dtype).removeprefix("torch."), 4)


def _number(config: dict[str, Any], *names: str, default: int = CACHE_TOKENS) -> int:
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int)), default)
