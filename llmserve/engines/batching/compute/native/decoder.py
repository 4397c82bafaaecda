"""A model's decoder in C++: packs the weights once, then runs a step in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.native.adapters import NativeAdapters
from llmserve.engines.batching.compute.native.kernels import Kernels, Layer, Shape, Step
from llmserve.engines.batching.compute.native.structure import Structure, Unknown, read_structure
from llmserve.engines.batching.compute.native.weights import Weights, take_weights

FIRST_ANGLES: Final = 1024
"""Positions whose angles are computed at once; the table doubles when a context outgrows it."""


def build_native(model: Any, kernels: Kernels) -> NativeDecoder | str:
    """A decoder that takes over the model's weights, or why there is none.

    Takes a transformers causal model in bfloat16 on the CPU. If the result is a reason, the model
    is untouched; otherwise its weights are gone, and only its config can still be used.
    """
    try:
        structure = read_structure(model)
    except Unknown as reason:
        return str(reason)
    return NativeDecoder(kernels, model, structure)


class NativeDecoder:
    """Implements `Forward`. One thread calls it at a time; it uses `torch.get_num_threads()`."""

    def __init__(self, kernels: Kernels, model: Any, structure: Structure) -> None:
        self._kernels = kernels
        self._structure = structure
        self._angles = Angles(model.model.rotary_emb)
        self._weights = take_weights(kernels, model, structure)
        self._bound: BoundCache | None = None
        self.adapters = NativeAdapters(kernels, len(structure.windows))
        shape = _shape(structure, self._weights, kernels.has_tiles())
        layers = _layers(structure, self._weights)
        self._decoder = kernels.decoder(shape, layers)

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """See `Forward`.

        Raises:
            ValueError: the cache has another shape, or the batch points outside of the vocabulary
                or the cache.
            MemoryError: there is no memory for the step. In both cases nothing was computed.
        """
        if self._bound is None or self._bound.cache is not cache:
            self._bound = BoundCache(cache, self._structure)
        logits = torch.empty(len(batch.sampled), self._structure.vocab)
        cosines, sines = self._angles.up_to(batch.max_context)
        segments = self.adapters.segments(batch.segments)
        step = Step(
            num_tokens=len(batch.token_ids),
            num_rows=len(batch.context_lengths),
            num_sampled=len(batch.sampled),
            max_blocks=batch.block_tables.shape[1],
            num_positions=len(cosines),
            num_blocks=cache.num_blocks,
            block_size=cache.block_size,
            threads=torch.get_num_threads(),
            token_ids=batch.token_ids.data_ptr(),
            positions=batch.positions.data_ptr(),
            slots=batch.slots.data_ptr(),
            sampled=batch.sampled.data_ptr(),
            query_starts=batch.query_starts.data_ptr(),
            context_lengths=batch.context_lengths.data_ptr(),
            block_tables=batch.block_tables.data_ptr(),
            cosines=cosines.data_ptr(),
            sines=sines.data_ptr(),
            keys=ctypes.addressof(self._bound.keys),
            values=ctypes.addressof(self._bound.values),
            logits=logits.data_ptr(),
            num_segments=len(segments),
            segments=ctypes.addressof(segments),
        )
        self._kernels.run_step(self._decoder, step)
        return logits


class BoundCache:
    """A cache and the addresses of its layers."""

    def __init__(self, cache: KVCache, structure: Structure) -> None:
        expected = (cache.num_blocks, structure.kv_heads, cache.block_size, structure.head_dim)
        tensors = [*cache.keys, *cache.values]
        if len(tensors) != 2 * len(structure.windows) or any(
            tuple(tensor.shape) != expected
            or tensor.dtype != torch.bfloat16
            or tensor.device.type != "cpu"
            or not tensor.is_contiguous()
            for tensor in tensors
        ):
            raise ValueError(
                f"the cache does not fit the model; it wants {len(structure.windows)} layers of "
                f"{expected} in bfloat16 on the CPU"
            )
        self.cache = cache
        self.keys = _pointers(cache.keys)
        self.values = _pointers(cache.values)


class Angles:
    """Cosines and sines of all positions so far, (num_positions, head_dim / 2) in float32."""

    def __init__(self, rotary: Any) -> None:
        self._rotary = rotary
        self._cosines = self._sines = torch.empty(0)
        self.up_to(FIRST_ANGLES)

    def up_to(self, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tables of at least so many positions, computed by the model's own embedding."""
        size = max(len(self._cosines), FIRST_ANGLES)
        if num_positions <= len(self._cosines):
            return self._cosines, self._sines
        while size < num_positions:
            size *= 2
        # The first argument determines the dtype and device of the result, nothing else.
        cosines, sines = self._rotary(torch.empty(0), position_ids=torch.arange(size)[None])
        half = cosines.shape[-1] // 2
        self._cosines = cosines[0, :, :half].float().contiguous()
        self._sines = sines[0, :, :half].float().contiguous()
        return self._cosines, self._sines


def _shape(structure: Structure, weights: Weights, uses_tiles: bool) -> Shape:
    return Shape(
        hidden=structure.hidden,
        intermediate=structure.intermediate,
        layers=len(structure.windows),
        query_heads=structure.query_heads,
        kv_heads=structure.kv_heads,
        head_dim=structure.head_dim,
        vocab=structure.vocab,
        norm_epsilon=structure.norm_epsilon,
        score_scale=structure.score_scale,
        embedding_scale=structure.embedding_scale,
        residual_scale=structure.residual_scale,
        logit_scale=structure.logit_scale,
        tiles=int(uses_tiles),
        embedding=_pointer(weights.embedding),
        head=_pointer(weights.head),
        final_norm=_pointer(weights.final_norm),
    )


def _layers(structure: Structure, weights: Weights) -> ctypes.Array[Layer]:
    layers = (Layer * len(weights.layers))()
    for number, layer in enumerate(weights.layers):
        layers[number] = Layer(
            **{name: _pointer(tensor) for name, tensor in layer.tensors()},
            window=structure.windows[number] or 0,
            rotates=int(structure.rotates[number]),
        )
    return layers


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[torch.Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
