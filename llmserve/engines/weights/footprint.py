"""How much memory a model needs, estimated from its files alone. Knows no torch and no device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.weights.checkpoint import (
    Checkpoint,
    NoCheckpoint,
    checkpoint_in,
    files_in,
    likely_weights,
)
from llmserve.engines.weights.gguf_header import NoHeader, read_gguf_header
from llmserve.engines.weights.purpose import purposes_of, transformer_folder
from llmserve.engines.weights.recurrent_config import num_attending, state_bytes
from llmserve.engines.weights.weight_bytes import BYTES, size_of, weight_bytes

CACHE_TOKENS: Final = 2048
"""Per running request, or the model's whole context if that is shorter."""
THREADED_SLOTS: Final = 4
CPU_SLOTS: Final = 32
GPU_SLOTS: Final = 256
ENCODING_SLOTS: Final = 256
"""Requests whose inputs are in one line; they cost no memory of the device."""


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

    The KV cache has the size that was asked for, or layers that store × (KV heads × sizes of a key
    and a value, or the size of a latent) × bytes per number × tokens, with `CACHE_TOKENS` tokens
    for each request that runs at once. Recurrent states come on top: two for each, as a step writes
    the new one beside the old. On a GPU the batching engine takes more if it is free. A model that
    encodes has none.
    """
    if spec.path is None:
        return None
    folder, encodes = spec.path, bool(purposes_of(spec))
    if encodes:
        folder = transformer_folder(folder)
    try:
        checkpoint = checkpoint_in(folder, spec.gguf_file)
    except NoCheckpoint:
        checkpoint = Checkpoint("", tuple(likely_weights(files_in(folder))))
    if not checkpoint.files:
        return None
    config = _config(folder, checkpoint)
    size = BYTES.get(spec.dtype) or size_of(config.get("dtype") or config.get("torch_dtype"))
    tokens = min(CACHE_TOKENS, spec.max_context or _number(config, "max_position_embeddings"))
    running = slots(spec.engine, max_running)
    cache = _cache_bytes_per_token(config, size) * tokens * running
    if kv_cache_bytes is not None and spec.engine is not EngineKind.THREADED:
        cache = kv_cache_bytes
    cache += 2 * running * state_bytes(config, size)
    weights = weight_bytes(spec, folder, checkpoint, config)
    return Footprint(weights=weights, cache=0 if encodes else cache)


def stored_bytes(folder: Path, gguf_file: str | None = None) -> int:
    """Size of the weights in a model's folder, or of files that look like them; 0 without any."""
    try:
        names: Sequence[str] = checkpoint_in(folder, gguf_file).files
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
    layers -= _number(config, "num_kv_shared_layers", default=0)
    if latent := _number(config, "kv_lora_rank", default=0):
        return layers * (latent + _number(config, "qk_rope_head_dim", default=0)) * size
    value_size = _number(config, "v_head_dim", default=head_size)
    return layers * kv_heads * (head_size + value_size) * size


def _config(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.gguf_file is not None:
        return _gguf_config(folder / checkpoint.gguf_file)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    for name in ("thinker_config", "text_config"):
        nested = config.get(name)
        if isinstance(nested, dict):
            config |= {key: value for key, value in nested.items() if value is not None}
    return config


def _gguf_config(file: Path) -> dict[str, Any]:
    """The numbers that count here, by the names that a config.json has for them."""
    try:
        header = read_gguf_header(file)
    except NoHeader:
        return {}
    named = {
        "num_hidden_layers": header.number("block_count"),
        "num_attention_heads": header.number("attention.head_count"),
        "num_key_value_heads": header.number("attention.head_count_kv"),
        "hidden_size": header.number("embedding_length"),
        "head_dim": header.number("attention.key_length"),
        "max_position_embeddings": header.number("context_length"),
    }
    told: dict[str, Any] = {name: number for name, number in named.items() if number}
    return told | {"dtype": "bfloat16"}


def _number(config: dict[str, Any], *names: str, default: int = CACHE_TOKENS) -> int:
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, int)), default)
