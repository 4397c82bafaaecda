"""Builds what computes a model's steps on its device."""

from __future__ import annotations

from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kernel_options import KernelOptions
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.on_cpu import build_on_cpu
from llmserve.engines.batching.compute.on_cuda import build_on_cuda
from llmserve.engines.batching.compute.sizing import CacheOptions
from llmserve.engines.progress import OnProgress
from llmserve.engines.weights.loading import LoadedModel


def build_computation(
    loaded: LoadedModel,
    shape: CacheShape,
    options: CacheOptions,
    *,
    tokens_per_step: int = 512,
    is_compiled: bool = False,
    kernels: KernelOptions | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> ModelComputation:
    """Everything that a step needs, compiled if that helps.

    Blocks; called on the thread that will run the steps.

    Raises:
        ModelBroken: the device has no room for it; shows the arithmetic.
    """
    if loaded.device.type == "cuda":
        return build_on_cuda(loaded, shape, options, tokens_per_step, is_compiled, on_progress)
    return build_on_cpu(
        loaded, shape, options, tokens_per_step, kernels or KernelOptions(), on_progress
    )
