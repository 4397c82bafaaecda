"""Puts together what computes a model's steps on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from llmserve.domain import LoadProgress
from llmserve.engines.adapters.hooks import HookedAdapters
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kernel_options import KernelOptions
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.native.attention import NativeAttention
from llmserve.engines.batching.compute.native.decoder import build_native
from llmserve.engines.batching.compute.native.instructions import AUTO, chosen
from llmserve.engines.batching.compute.native.kernels import Kernels
from llmserve.engines.batching.compute.native.linears import pack_linears
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sampling.native_sampler import NativeSampler
from llmserve.engines.batching.compute.sampling.torch_sampler import sample_tokens
from llmserve.engines.batching.compute.sizing import CacheOptions, cpu_cache_size
from llmserve.engines.batching.compute.state_kernels import state_kernels
from llmserve.engines.batching.compute.step_adapters import StepAdapters
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.progress import OnProgress
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import ModelBroken
from llmserve.machine.allowance import free_memory


def build_on_cpu(
    loaded: LoadedModel,
    shape: CacheShape,
    options: CacheOptions,
    tokens_per_step: int,
    kernel_options: KernelOptions,
    on_progress: OnProgress,
) -> ModelComputation:
    """Our native kernels where processor and weights allow, torch elsewhere.

    Raises:
        ModelBroken: the processor does not have the instructions that were asked for.
    """
    if kernel_options.instructions != AUTO and isinstance(
        reason := chosen(kernel_options.instructions), str
    ):
        raise ModelBroken(f"{reason}; set cpu_instructions to one of these or to auto")
    if loaded.model.dtype != torch.bfloat16:
        kernels: Kernels | str = "the weights are not bfloat16"
    else:
        on_progress(LoadProgress("compiling"))
        kernels = Kernels.load(kernel_options.cache_dir, kernel_options.instructions)
    forward, adapters, description, close = _forward(loaded.model, kernels, shape)
    if shape.states:
        description += f"; {state_kernels(loaded.model, shape.states)}"
    sampler = sample_tokens if isinstance(kernels, str) else NativeSampler(kernels)
    dtype = loaded.model.dtype
    size = cpu_cache_size(
        shape, dtype, options, free_bytes=_free_bytes(), max_context=loaded.max_context
    )
    cache = KVCache(
        shape.layers,
        num_blocks=size.num_blocks,
        block_size=options.block_size,
        dtype=dtype,
        device=loaded.device,
        states=shape.pool(size.states.num_slots, size.states.running, loaded.device),
    )
    runner = Runner(forward, cache, loaded.device, sampler)
    return ModelComputation(
        cache, description, size.arithmetic, tokens_per_step, runner, close, adapters
    )


def _forward(
    model: Any, kernels: Kernels | str, shape: CacheShape
) -> tuple[Forward, StepAdapters, str, Callable[[], None]]:
    """The forward, what attaches adapters to it, a description, and how to close it; `kernels` may
    be the reason why there are none."""
    if isinstance(kernels, str):
        plain = TransformersForward(model, GroupedAttention(), shape.states)
        description = f"transformers' code, attention in torch ({kernels})"
        return plain, HookedAdapters(model, plain.segments), description, plain.close
    native = build_native(model, kernels)
    if not isinstance(native, str):
        return native, native.adapters, f"native kernels ({kernels.instructions})", _nothing
    packed = pack_linears(model, kernels)
    plain = TransformersForward(model, NativeAttention(kernels, GroupedAttention()), shape.states)
    if isinstance(packed, str):
        parts, reasons = "attention", f"{native}; {packed}"
    else:
        parts, reasons = f"attention and {packed} linear layers", native
    description = (
        f"transformers' code, {parts} by native kernels ({kernels.instructions}): {reasons}"
    )
    return plain, HookedAdapters(model, plain.segments), description, plain.close


def _free_bytes() -> int:
    free = free_memory()
    if free is not None:
        return free
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _nothing() -> None:
    return None
