"""Builds what computes a model's steps on its device: the forward that suits it, and the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from llmserve.domain import LoadProgress
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.choosing import choose
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.native.attention import NativeAttention
from llmserve.engines.batching.compute.native.chooser import NativeChooser
from llmserve.engines.batching.compute.native.decoder import build_native
from llmserve.engines.batching.compute.native.kernels import Kernels
from llmserve.engines.batching.compute.native.linears import pack_linears
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sizing import CacheSize, cache_size
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import StepPlan
from llmserve.engines.loading import LoadedModel
from llmserve.machine.allowance import free_memory

OnProgress = Callable[[LoadProgress], None]


class DeviceLost(RuntimeError):
    """The device's context is broken: every later call on it fails too."""


@dataclass(frozen=True, slots=True)
class CacheWish:
    """What is asked of the KV cache; see `cache_size`."""

    block_size: int
    max_running: int
    num_bytes: int | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Computing:
    """A model's forward and its cache; `description` and `arithmetic` tell how they came about."""

    cache: KVCache
    description: str
    arithmetic: str
    _runner: Runner
    _close: Callable[[], None]

    def prepare(self, plan: StepPlan) -> Batch:
        """See `Runner.prepare`."""
        return self._runner.prepare(plan)

    def run(self, batch: Batch, rows: Sequence[Any]) -> Sequence[Any]:
        """See `Runner.run`.

        Raises:
            DeviceLost: nothing can be computed any more.
        """
        try:
            return self._runner.run(batch, rows)
        except torch.OutOfMemoryError:
            raise
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error)) from error

    def close(self) -> None:
        """Let go; the model attends in its former way again, where it still can."""
        self._close()


def build_computing(
    loaded: LoadedModel,
    layers: Sequence[LayerShape],
    wish: CacheWish,
    *,
    is_compiled: bool = False,
    cache_dir: Path | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Computing:
    """Everything that a step needs, compiled where that helps.

    Blocks; called on the thread that will run the steps.
    """
    if loaded.device.type == "cuda":
        return _on_cuda(loaded, layers, wish, is_compiled, on_progress)
    return _on_cpu(loaded, layers, wish, cache_dir, on_progress)


def _on_cpu(
    loaded: LoadedModel,
    layers: Sequence[LayerShape],
    wish: CacheWish,
    cache_dir: Path | None,
    on_progress: OnProgress,
) -> Computing:
    if loaded.model.dtype != torch.bfloat16:
        kernels: Kernels | str = "the weights are not bfloat16"
    else:
        on_progress(LoadProgress("compiling"))
        kernels = Kernels.load(cache_dir)
    forward, description, close = _cpu_forward(loaded.model, kernels)
    chooser = choose if isinstance(kernels, str) else NativeChooser(kernels)
    size = _size(loaded, layers, wish)
    cache = _cache(KVCache, loaded, layers, wish, size)
    runner = Runner(forward, cache, loaded.device, chooser)
    return Computing(cache, description, size.arithmetic, runner, close)


def _cpu_forward(model: Any, kernels: Kernels | str) -> tuple[Forward, str, Callable[[], None]]:
    """What computes, how it came about, and how to let go of it; `kernels` may be why there are
    none."""
    if isinstance(kernels, str):
        plain = TransformersForward(model, GroupedAttention())
        return plain, f"transformers' code, attention in torch ({kernels})", plain.close
    instructions = "AMX" if kernels.has_tiles() else "AVX-512"
    native = build_native(model, kernels)
    if not isinstance(native, str):
        return native, f"native kernels ({instructions})", _nothing
    packed = pack_linears(model, kernels)
    plain = TransformersForward(model, NativeAttention(kernels, GroupedAttention()))
    if isinstance(packed, str):
        parts, reasons = "attention", f"{native}; {packed}"
    else:
        parts, reasons = f"attention and {packed} linear layers", native
    description = f"transformers' code, {parts} by native kernels ({instructions}): {reasons}"
    return plain, description, plain.close


def _on_cuda(
    loaded: LoadedModel,
    layers: Sequence[LayerShape],
    wish: CacheWish,
    is_compiled: bool,
    on_progress: OnProgress,
) -> Computing:
    size = _size(loaded, layers, wish)
    try:
        from llmserve.engines.batching.compute.cuda import flash
        from llmserve.engines.batching.compute.cuda.attention import CudaAttention
        from llmserve.engines.batching.compute.cuda.compiled import compiled
        from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder, GraphedForward
        from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache
    except ImportError as error:  # CUDA builds of torch bring Triton; others may have been chosen
        logger.warning("no Triton kernels ({}): attention in torch, no CUDA graphs", error)
        plain = TransformersForward(loaded.model, GroupedAttention())
        cache = _cache(KVCache, loaded, layers, wish, size)
        description = "transformers' code, attention in torch (no Triton)"
        runner = Runner(plain, cache, loaded.device)
        return Computing(cache, description, size.arithmetic, runner, plain.close)
    cache = _cache(CudaKVCache, loaded, layers, wish, size)
    paged_flash = flash.activate_paged(loaded.device, wish.block_size)
    forward = TransformersForward(loaded.model, CudaAttention(loaded.device))
    if is_compiled:
        compiled(loaded.model)
    graphed = GraphedForward(
        forward,
        cache,
        CudaRecorder(loaded.device),
        max_rows=wish.max_running,
        max_context=min(loaded.max_context, cache.num_tokens),
        device=loaded.device,
    )
    graphed.capture(
        lambda done, total: on_progress(LoadProgress("capturing CUDA graphs", done / total))
    )
    attention = f"{paged_flash} and Triton attention" if paged_flash else "Triton attention"
    parts = ["transformers' code", attention, f"{graphed.num_graphs} CUDA graphs"]
    description = ", ".join(parts + ["torch.compile"] * is_compiled)
    runner = Runner(graphed, cache, loaded.device)
    return Computing(cache, description, size.arithmetic, runner, forward.close)


def _size(loaded: LoadedModel, layers: Sequence[LayerShape], wish: CacheWish) -> CacheSize:
    is_gpu = loaded.device.type == "cuda"
    # Logits of a step in float32, and as much again while they are made.
    logits = 2 * 4 * wish.max_running * loaded.tokenizer.vocab_size if is_gpu else 0
    return cache_size(
        layers,
        loaded.model.dtype,
        wish.block_size,
        is_gpu=is_gpu,
        free_bytes=max(0, _free_bytes(loaded.device) - logits),
        max_running=wish.max_running,
        max_context=loaded.max_context,
        asked_bytes=wish.num_bytes,
        share=wish.share,
    )


def _cache(
    kind: type[KVCache],
    loaded: LoadedModel,
    layers: Sequence[LayerShape],
    wish: CacheWish,
    size: CacheSize,
) -> KVCache:
    return kind(
        layers,
        num_blocks=size.num_blocks,
        block_size=wish.block_size,
        dtype=loaded.model.dtype,
        device=loaded.device,
    )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_memory()
    if free is not None:
        return free
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _nothing() -> None:
    return None
