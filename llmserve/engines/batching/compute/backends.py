"""The attention backends for NVIDIA GPUs, and the choice among them: the fastest that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from loguru import logger

from llmserve.engines.accelerator import answers
from llmserve.engines.batching.compute.attention import Attention
from llmserve.engines.batching.compute.grouped_attention import GroupedAttention
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.trial import Trial
from llmserve.engines.frames import forget_frames
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import DeviceLost

if TYPE_CHECKING:
    from llmserve.engines.batching.compute.cuda.attention import CudaAttention


@dataclass(frozen=True, slots=True)
class Backend:
    """An attention backend.

    Attributes:
        compile_all: compiles every kernel that batches of up to so many rows, of up to so many
            tokens each, may need.
        is_capturable: whether decode with it can be recorded in CUDA graphs.
        is_idle: whether no layer so far used what distinguishes it from the next backend.
    """

    name: str
    attention: Attention
    cache: type[KVCache]
    compile_all: Callable[[int, int], None] = lambda rows, tokens: None
    is_capturable: bool = True
    is_idle: Callable[[], bool] = lambda: False


def first_that_works(loaded: LoadedModel, trial: Trial) -> tuple[Backend, list[str]]:
    """The fastest backend that gives what plain torch gives, and why others were rejected.

    Raises:
        DeviceLost: one of them has broken the device.
        OutOfMemoryError: the device has no room for a trial.
    """
    refusals: list[str] = []
    for backend in _backends(loaded.device, trial.block_size, refusals):
        try:
            is_right = trial.is_right(backend.attention, backend.cache)
            problem = None if is_right else "its results are wrong"
        except torch.OutOfMemoryError:
            raise  # not this backend's fault, and the slower ones need more
        # No compiler, no headers, too little shared memory, a driver that is too old: Triton and
        # torch raise whatever they like.
        except Exception as error:
            problem = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            forget_frames(error)
        if problem is None and backend.is_idle():
            continue
        if problem is None:
            return backend, refusals
        if not answers(loaded.device):
            raise DeviceLost(
                f"{loaded.device} does not answer any more after {backend.name} was tried "
                f"({problem}); its worker has to be replaced"
            )
        logger.warning("{} is not used: {}", backend.name, problem)
        refusals.append(f"{backend.name} is not used: {problem}")
    plain = Backend("attention in torch", GroupedAttention(), KVCache, is_capturable=False)
    return plain, refusals


def _backends(device: torch.device, block_size: int, refusals: list[str]) -> Iterator[Backend]:
    """The fastest first, without plain torch."""
    try:
        from llmserve.engines.batching.compute.cuda.attention import CudaAttention
        from llmserve.engines.batching.compute.cuda.flash_versions import activate_paged
        from llmserve.engines.batching.compute.cuda.varlen import Varlen
    except ImportError as error:  # CUDA builds of torch bring Triton; others may have been chosen
        logger.warning("no Triton: {}", error)
        refusals.append(f"no Triton: {error}")
        return
    varlen = Varlen.of_torch(device)
    if varlen is not None:
        if version := activate_paged(device, varlen, block_size):
            paged = CudaAttention(device, varlen, is_paged=True)
            yield _with_kernels(f"{version} and Triton attention", paged)
        mixed = CudaAttention(device, varlen)
        yield _with_kernels("FlashAttention for prompts and Triton attention", mixed)
    yield _with_kernels("Triton attention", CudaAttention(device))


def _with_kernels(name: str, attention: CudaAttention) -> Backend:
    from llmserve.engines.batching.compute.cuda.kv_write import CudaKVCache

    def is_idle() -> bool:
        return attention.has_varlen and not attention.used_varlen

    return Backend(name, attention, CudaKVCache, attention.compile_all, is_idle=is_idle)
