"""One model's decode steps, timed: through the runner, and its kernels alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from random_models.presets import find_preset
from transformers import AutoModelForCausalLM

from llmserve.domain import SamplingParams
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.attention import CudaAttention
from llmserve.engines.batching.compute.cuda.compiled import compiled
from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder, GraphedForward
from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sampling.row_state import RowState
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.sequence import Sequence

DTYPE = torch.bfloat16
BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of a step, and of the device's part of it."""

    step_seconds: float
    kernel_seconds: float


def random_model(preset: str, device: torch.device) -> Any:
    """The preset's shape with whatever weights transformers starts from, made on the device."""
    with device:
        model = AutoModelForCausalLM.from_config(find_preset(preset).config(), dtype=DTYPE)
    return model.eval()


def layer_shapes(model: Any) -> list[LayerShape]:
    """All layers of these models are alike."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return [LayerShape(config.num_key_value_heads, head_dim)] * config.num_hidden_layers


def make_cache(model: Any, batch: int, context: int, device: torch.device) -> KVCache:
    """Room for the largest batch, full of numbers."""
    cache = CudaKVCache(
        layer_shapes(model),
        num_blocks=1 + batch * -(-context // BLOCK_SIZE),
        block_size=BLOCK_SIZE,
        dtype=DTYPE,
        device=device,
    )
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    return cache


@contextmanager
def make_forward(
    mode: str, model: Any, cache: KVCache, batches: Collection[int], context: int
) -> Iterator[Forward]:
    """`eager`, `graphs` or `graphs + compile`; the model is given back as it was, but compiled."""
    device = cache.keys[0].device
    forward = TransformersForward(model, CudaAttention(device))
    try:
        if "compile" in mode:
            compiled(model)
        if mode == "eager":
            yield forward
            return
        graphed = GraphedForward(
            forward,
            cache,
            CudaRecorder(device),
            max_rows=max(batches),
            max_context=context,
            device=device,
        )
        graphed.capture()
        if not graphed.num_graphs:
            raise RuntimeError("the model cannot be captured in CUDA graphs")
        yield graphed
    finally:
        forward.close()


def time_decode(forward: Forward, cache: KVCache, batch: int, context: int, steps: int) -> Timing:
    """Greedy decode of rows whose contexts are of this length; the last step reaches it."""
    device = cache.keys[0].device
    blocks = -(-context // BLOCK_SIZE)
    rows = [
        Sequence(
            token_ids=[(13 * row + token) % 1000 + 10 for token in range(context)],
            blocks=list(range(1 + row * blocks, 1 + (row + 1) * blocks)),
        )
        for row in range(batch)
    ]
    plan = StepPlan(tuple(Slice(row, context - 1, 1, is_sampled=True) for row in rows))
    runner = Runner(forward, cache, device)
    params = SamplingParams(temperature=0.0)
    sampling = [RowState(params, [], [], 1, device) for _ in rows]
    step_seconds = _median(lambda: runner.compute(runner.prepare(plan), sampling), steps)
    with torch.inference_mode():
        laid_out = Batch.from_plan(plan, BLOCK_SIZE, device)
        kernel_seconds = _device_seconds(lambda: forward(laid_out, cache), steps)
    return Timing(step_seconds, kernel_seconds)


def _median(step: Callable[[], object], steps: int) -> float:
    """Every step ends with its tokens on the host: the wall clock is the step's."""
    for _ in range(5):
        step()
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _device_seconds(step: Callable[[], object], steps: int) -> float:
    """Steps one after the other with no word from the host between them."""
    step()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / steps
