"""What the native kernels' tests share: the compiled library, small models, and rows of a batch."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from random_models.presets import find_preset
from random_models.weights import random_model
from transformers import AutoConfig

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.native import build
from llmserve.engines.batching.compute.native.decoder import NativeDecoder
from llmserve.engines.batching.compute.native.instructions import AUTO, INSTRUCTION_SETS, chosen
from llmserve.engines.batching.compute.native.kernels import Kernels
from llmserve.engines.batching.compute.native.structure import read_structure
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

NUM_BLOCKS = 96
LIBRARIES = Path(__file__).parents[2] / ".pytest_cache" / "d" / "native"
"""Compiled once for all test processes and runs; `pytest --cache-clear` empties it. The name of a
library tells what it was made of."""
EMULATED_TILES = Path(__file__).with_name("emulated_tiles.h")


TILES: Final = "amx"
_NAMES: Final = tuple(e.name for e in INSTRUCTION_SETS if e.machine == platform.machine())
PATHS: Final = (*_NAMES, TILES) if "avx512-bf16" in _NAMES else _NAMES
"""What the kernels can compute with on processors of this architecture. A test of a path that this
one cannot take is skipped."""
PLAIN: Final = "plain"
"""The best path that does without AMX."""


class EmulatedTiles(Kernels):
    """AMX on a processor that has none; see emulated_tiles.h."""

    def has_tiles(self) -> bool:
        return True


class WithoutTiles(Kernels):
    """As on a processor without AMX."""

    def has_tiles(self) -> bool:
        return False


@functools.cache
def _load(path: str) -> Kernels | str:
    if path != TILES:
        return WithoutTiles.load(LIBRARIES, AUTO if path == PLAIN else path)
    found = Kernels.load(LIBRARIES, "avx512-bf16")
    if isinstance(found, str) or found.has_tiles():
        return found
    options = build.OPTIONS
    content = hashlib.sha256(EMULATED_TILES.read_bytes()).hexdigest()
    try:
        build.OPTIONS = (*options, "-include", str(EMULATED_TILES), f"-DEMULATED_TILES_{content}")
        return EmulatedTiles.load(LIBRARIES, "avx512-bf16")
    finally:
        build.OPTIONS = options


def kernels(*, path: str = PLAIN) -> Kernels:
    """The library for a path, with AMX (the processor's, or emulated) or without; the test is
    skipped where it cannot be had, and fails in CI if it should."""
    found = _load(path)
    if isinstance(found, Kernels):
        return found
    wanted = {PLAIN: AUTO, TILES: "avx512-bf16"}.get(path, path)
    if not isinstance(chosen(wanted), str) and os.environ.get("CI") == "true":
        pytest.fail(found)
    pytest.skip(found)


def preset_model(name: str, **settings: Any) -> Any:
    """A random miniature in bfloat16."""
    preset = find_preset(name)
    config = preset.config()
    for key, value in settings.items():
        setattr(config, key, value)
    return random_model(config, 0, preset.embedding_scale).to(torch.bfloat16).eval()


def shaped_model(family: str, **settings: Any) -> Any:
    """A random model of a family in bfloat16, two layers and a small vocabulary."""
    defaults = {"num_hidden_layers": 2, "vocab_size": 500, "initializer_range": 0.1}
    config = AutoConfig.for_model(family, **(defaults | settings))
    return random_model(config, 0, 1.0).to(torch.bfloat16).eval()


def native(model: Any, *, path: str = TILES) -> NativeDecoder:
    """A decoder of a copy of the model."""
    copied = copy.deepcopy(model)
    return NativeDecoder(kernels(path=path), copied, read_structure(copied))


def cache_for(model: Any, block_size: int = 16, num_blocks: int = NUM_BLOCKS) -> KVCache:
    """An empty cache; every number in it is NaN until it is written, as old memory may be."""
    config = model.config
    head_dim = model.model.layers[0].self_attn.head_dim
    cache = KVCache(
        [LayerShape(config.num_key_value_heads, head_dim)] * config.num_hidden_layers,
        num_blocks=num_blocks,
        block_size=block_size,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )
    for memory in (*cache.keys, *cache.values):
        memory.fill_(torch.nan)
    return cache


def tokens(model: Any, length: int, seed: int = 0) -> list[int]:
    """Random tokens of the model's vocabulary."""
    source = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(0, model.config.vocab_size, (length,), generator=source).tolist()
    return ids


def sequence(token_ids: list[int], blocks: Iterable[int]) -> Sequence:
    """A sequence that has its blocks already."""
    return Sequence(token_ids, blocks=list(blocks))


def batch(cache: KVCache, *parts: tuple[Sequence, int, int]) -> Batch:
    """One slice for each (sequence, start, end), all of them sampled."""
    slices = tuple(Slice(row, start, end - start, True) for row, start, end in parts)
    return Batch.from_plan(StepPlan(slices), cache.block_size, torch.device("cpu"))


@torch.inference_mode()
def true_logits(model: Any, token_ids: list[int]) -> torch.Tensor:
    """(length, vocab): what the model's own code says with the same weights in float32."""
    exact = copy.deepcopy(model).float()
    logits: torch.Tensor = exact(torch.tensor([token_ids]), use_cache=False).logits[0]
    return logits


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Size of the difference as a part of the expected size."""
    assert actual.shape == expected.shape
    return float((actual.float() - expected).norm() / expected.norm())


@torch.inference_mode()
def bfloat16_error(model: Any, token_ids: list[int], expected: torch.Tensor) -> float:
    """How far the model's own code is from `true_logits` in bfloat16."""
    logits = model(torch.tensor([token_ids]), use_cache=False).logits[0]
    return error(logits, expected)
