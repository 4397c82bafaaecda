"""Chooses and builds the engine for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from llmserve.domain import EngineKind, ModelSpec
from llmserve.engines.chosen import ChosenEngine
from llmserve.engines.engine import Engine
from llmserve.engines.memory_share import MemoryShare
from llmserve.engines.weights.footprint import slots
from llmserve.machine.allowance import processors

if TYPE_CHECKING:
    import torch

    from llmserve.engines.batching.compute.kv_cache import LayerShape
    from llmserve.engines.batching.loop import StepReport
    from llmserve.engines.weights.loading import Fetch, LoadedModel


def build_engine(
    spec: ModelSpec,
    *,
    max_running: int | None = None,
    torch_threads: int | None = None,
    fetch: Fetch,
    kv_cache_bytes: int | None = None,
    worker_share: float = 1.0,
    memory_share: Callable[[str, int], MemoryShare] | None = None,
    max_tokens_per_step: int | None = None,
    prefix_caching: bool = True,
    torch_compile: bool = False,
    cache_dir: Path | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Engine:
    """The engine that the spec asks for; `auto` takes the best one the model supports.

    `worker_share` is this worker's part of the cores and of its device's memory; `memory_share`
    says more of the latter, from the device that the model is on and the number of GPUs.

    `torch_threads` is per running request of the threaded engine, `None` shares the cores among
    them; the batching engine's one step takes as many, or this worker's share of the cores.
    """

    def batching(loaded: LoadedModel, layers: Sequence[LayerShape], why: str) -> Engine:
        from llmserve.engines.batching.engine import BatchingEngine, BatchingOptions
        from llmserve.engines.weights.devices import num_gpus

        def share(device: torch.device) -> MemoryShare:
            if memory_share is None:
                return MemoryShare(worker_share)
            return memory_share(str(device), num_gpus())

        running = slots(EngineKind.BATCHING, max_running, loaded.device.type)
        threads = torch_threads or max(1, round(processors() * worker_share))
        logger.info("model {} is served by the batching engine ({}), {} at once, {} CPU threads",
                    spec.name, why, running, threads)  # fmt: skip
        options = BatchingOptions(
            max_running=running,
            torch_threads=threads,
            kv_cache_bytes=kv_cache_bytes,
            memory_share=share,
            max_tokens_per_step=max_tokens_per_step,
            is_caching=prefix_caching,
            is_compiled=torch_compile,
            cache_dir=cache_dir,
        )
        return BatchingEngine(spec, loaded, layers, options, why=why, on_step=on_step)

    threaded = partial(_threaded, spec, max_running, torch_threads, fetch)
    return ChosenEngine(spec, fetch=fetch, batching=batching, threaded=threaded)


def _threaded(
    spec: ModelSpec,
    max_running: int | None,
    torch_threads: int | None,
    fetch: Fetch,
    loaded: LoadedModel | None,
    why: str,
) -> Engine:
    from llmserve.engines.threaded.engine import ThreadedEngine

    running = slots(EngineKind.THREADED, max_running)
    threads = torch_threads or max(1, processors() // running)
    logger.info(
        "model {} is served by the threaded engine ({}), {} at once, {} CPU threads each",
        spec.name,
        why,
        running,
        threads,
    )
    return ThreadedEngine(
        spec,
        why=why,
        max_running=running,
        torch_threads=threads,
        fetch=fetch,
        loaded=loaded,
    )
