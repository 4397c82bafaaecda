"""How engines are built: what an operator decided, the same for every model of a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmserve.domain import EngineKind, LoadProgress, ModelSpec
from llmserve.engines.adapters.adapter_set import AdapterSet
from llmserve.engines.attempt_report import AttemptReport
from llmserve.engines.batch_report import BatchReport
from llmserve.engines.memory_share import MemoryShare
from llmserve.engines.step_report import StepReport
from llmserve.engines.weights.footprint import slots
from llmserve.machine.allowance import processors

Fetch = Callable[[ModelSpec, Callable[[LoadProgress], None]], Path]
"""Finds a model's folder, downloading it if need be; blocks."""

Share = Callable[[ModelSpec, str, int], MemoryShare]
"""What a model may take of its device's memory, from the device, as in `cuda:0`, and the number of
GPUs."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What every engine of a worker is built with; an engine takes what concerns it.

    Attributes:
        max_running: requests at once, `None` for what suits engine and device.
        torch_threads: of each thread that computes on a CPU, `None` to share this worker's cores.
        kv_cache_bytes: of the paged cache, `None` to size it by what is free.
        worker_share: this worker's part of the cores, and of the memory of its device.
        memory_share: says more of the memory, `None` where no other model uses it.
        block_size: tokens per block of the paged cache.
        max_tokens_per_step: prompt and answer tokens together, `None` for what suits the device.
        prefix_caching: whether requests share the KV cache of what their prompts begin with.
        max_adapters: of one model, loaded at once.
        max_adapter_rank: of the adapters' matrices.
        torch_compile: whether torch.compile takes the model, on a GPU.
        cpu_instructions: what the CPU's kernels are compiled for.
        cache_dir: for compiled kernels, `None` for the usual place.
        on_step: called after each step with the model's name, on the thread that computed it.
        on_batch: called after each batch of an encoder, as `on_step`.
        on_attempt: called after each request to an upstream with the model's name.
        is_drained: whether an operator wants that a model's upstream gets no requests.
    """

    fetch: Fetch
    max_running: int | None = None
    torch_threads: int | None = None
    kv_cache_bytes: int | None = None
    worker_share: float = 1.0
    memory_share: Share | None = None
    block_size: int = 16
    max_tokens_per_step: int | None = None
    prefix_caching: bool = True
    max_adapters: int = 8
    max_adapter_rank: int = 64
    torch_compile: bool = False
    cpu_instructions: str = "auto"
    cache_dir: Path | None = None
    on_step: Callable[[str, StepReport], None] = lambda model, report: None
    on_batch: Callable[[str, BatchReport], None] = lambda model, report: None
    on_attempt: Callable[[str, AttemptReport], None] = lambda model, report: None
    is_drained: Callable[[str, str], bool] = lambda model, url: False

    def adapter_set(self, spec: ModelSpec) -> AdapterSet:
        """An empty one, for a model."""
        base = spec.hub_id or (spec.path.name if spec.path is not None else "")
        return AdapterSet(spec.name, base, most=self.max_adapters, max_rank=self.max_adapter_rank)

    def slots(self, kind: EngineKind, device: str = "cpu") -> int:
        """Requests at once of an engine on a type of device."""
        return slots(kind, self.max_running, device)

    def threads(self, num_computing: int = 1) -> int:
        """CPU threads for each of so many that compute at once."""
        own = round(processors() * self.worker_share)
        return self.torch_threads or max(1, own // num_computing)

    def share_for(self, spec: ModelSpec, device: str, num_gpus: int) -> MemoryShare:
        """What a model may take of its device's memory."""
        if self.memory_share is None:
            return MemoryShare(self.worker_share)
        return self.memory_share(spec, device, num_gpus)
