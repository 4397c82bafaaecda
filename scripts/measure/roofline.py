"""What a decode step must move through memory, and how fast this memory is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from llmserve.engines.batching.compute.kv_cache import LayerShape


def weight_bytes(model: Any) -> int:
    """Weights that a step reads: all but a token table from which only a few rows are taken."""
    total: int = sum(parameter.nbytes for parameter in model.parameters())
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    return total if head is table else total - table.nbytes


def step_bytes(
    model: Any, layers: Sequence[LayerShape], dtype: torch.dtype, batch: int, context: int
) -> int:
    """Weights once, and every row's keys and values."""
    cached = sum(layer.bytes_per_token(dtype) for layer in layers) * batch * context
    return weight_bytes(model) + cached


def copy_bandwidth(device: torch.device, num_bytes: int = 2 * 2**30, repeats: int = 10) -> float:
    """Bytes per second, read and written, of a copy far larger than the caches; the median."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return 2 * num_bytes / statistics.median(seconds)
