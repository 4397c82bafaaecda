"""Puts together what computes a model's steps on an NVIDIA GPU: attention that passes a trial, room
for the largest step, the KV cache in what is left, every kernel compiled, decode and steps with
short pieces of prompts in CUDA graphs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import torch
from loguru import logger

from llmserve.domain import LoadProgress
from llmserve.engines.batching.compute.backends import Backend, first_that_works
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.cuda.adapter_graphs import AdapterGraphs
from llmserve.engines.batching.compute.cuda.adapters import CudaAdapters
from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder, GraphedForward
from llmserve.engines.batching.compute.forward import Forward
from llmserve.engines.batching.compute.headroom import (
    DeviceMemory,
    Headroom,
    LargestStep,
    Memory,
    measure_graphs,
    measure_step,
)
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.model_computation import ModelComputation
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.sizing import (
    CacheOptions,
    CacheSize,
    gpu_cache_size,
    most_running,
)
from llmserve.engines.batching.compute.state_kernels import state_kernels
from llmserve.engines.batching.compute.state_sizing import NumStates
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.compute.trial import Trial
from llmserve.engines.frames import forget_frames
from llmserve.engines.progress import OnProgress
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import ModelBroken

LEAST_STEP: Final = 256
"""Tokens; a GPU without room for such a step is not worth serving from."""
USUAL_CONTEXT: Final = 8192
"""Tokens; steps are made smaller if the cache would have room for fewer."""


def build_on_cuda(
    loaded: LoadedModel,
    shape: CacheShape,
    options: CacheOptions,
    tokens_per_step: int,
    is_compiled: bool,
    on_progress: OnProgress,
) -> ModelComputation:
    """Whatever is not tried and measured here, a request would find out.

    Raises:
        ModelBroken: the device has no room for it, or does not answer any more.
    """
    try:
        on_progress(LoadProgress("trying the kernels"))
        backend, refusals = first_that_works(loaded, Trial(loaded, shape, options.block_size))
        assembly = _Assembly(loaded, shape, options, backend, refusals, on_progress)
        try:
            return assembly.build(tokens_per_step, is_compiled)
        except BaseException:
            assembly.forward.close()
            raise
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        forget_frames(error)
        raise ModelBroken(
            f"{loaded.device} ran out of memory for the model's largest step ({reason}); lower "
            "max_tokens_per_step or max_running, or serve a smaller model"
        ) from None


class _Assembly:
    """Builds the `ModelComputation` of one model."""

    def __init__(
        self,
        loaded: LoadedModel,
        shape: CacheShape,
        options: CacheOptions,
        backend: Backend,
        refusals: list[str],
        on_progress: OnProgress,
    ) -> None:
        self.forward = TransformersForward(loaded.model, backend.attention, shape.states)
        self._adapters = CudaAdapters(loaded.model, self.forward.segments)
        self._loaded = loaded
        self._shape = shape
        self._options = options
        self._backend = backend
        self._refusals = refusals
        self._on_progress = on_progress
        self._memory: Memory = DeviceMemory(loaded.device)
        self._prompt_tokens = 0  # at most, in CUDA graphs

    def build(self, tokens_per_step: int, is_compiled: bool) -> ModelComputation:
        """Measures first, then allocates what stays."""
        self._prompt_tokens = tokens_per_step
        self._run_at_most(
            most_running(
                self._shape,
                self._loaded.model.dtype,
                self._options,
                device=self._memory.occupancy(),
                weight_bytes=self._loaded.weight_bytes,
            )
        )
        headroom = self._headroom(tokens_per_step)
        self._on_progress(LoadProgress("compiling kernels"))
        self._backend.compile_all(self._options.max_running, self._loaded.max_context)
        size = self._cache_size(headroom)
        self._run_at_most(size.states.running)
        cache = self._cache(size.num_blocks, size.states)
        parts = ["transformers' code", self._backend.name]
        forward: Forward = self.forward
        replayed = 0
        if self._shape.states:
            parts.append(state_kernels(self._loaded.model, self._shape.states))
        if is_compiled and self._shape.states:
            self._refuse("no torch.compile: the model keeps recurrent states")
        elif is_compiled:
            from llmserve.engines.batching.compute.cuda.compiled import compiled

            compiled(self._loaded.model)
            self._adapters.refusal = "torch_compile is on, and compiled code would not see adapters"
            parts.append("torch.compile")
        if headroom.graph_bytes is not None:
            graphed = self._graphed(cache)
            problem = graphed.capture(self._report_graphs)
            replayed = graphed.max_prompt_tokens
            if problem is None:
                parts.append(f"{graphed.num_graphs} CUDA graphs")
                forward = self._with_adapters(graphed, cache)
            else:
                self._refusals.append(f"no CUDA graphs: {problem}")
        return ModelComputation(
            cache,
            "; ".join([", ".join(parts), *self._refusals]),
            size.arithmetic,
            headroom.tokens_per_step,
            Runner(forward, cache, self._loaded.device),
            self.forward.close,
            self._adapters,
            headroom.step_bytes,
            replayed,
        )

    def _run_at_most(self, max_running: int) -> None:
        self._options = replace(self._options, max_running=max_running)

    def _headroom(self, tokens_per_step: int) -> Headroom:
        self._on_progress(LoadProgress("measuring a step"))
        options, loaded = self._options, self._loaded
        cache = self._cache(1, NumStates(options.max_running))
        graph_bytes = self._graph_bytes(cache)
        usual = min(loaded.max_context, USUAL_CONTEXT)
        per_token = self._shape.bytes_per_token(loaded.model.dtype)
        largest = LargestStep(
            loaded,
            self._shape.layers,
            self.forward,
            cache,
            options.max_running,
            is_plain=not self._backend.is_capturable,
        )
        share = options.share.of(self._memory.occupancy(), loaded.weight_bytes)
        tokens, step_bytes = measure_step(
            self._memory,
            largest.run,
            tokens_per_step=tokens_per_step,
            least_tokens=min(tokens_per_step, max(LEAST_STEP, options.max_running)),
            most_bytes=share - (graph_bytes or 0) - (options.num_bytes or usual * per_token),
        )
        return Headroom(tokens, step_bytes, graph_bytes)

    def _graph_bytes(self, cache: KVCache) -> int | None:
        """`None` where no step can be captured."""
        reason: int | str = "attention in torch waits for the device"
        if self._backend.is_capturable:
            reason = with_prompts = measure_graphs(self._memory, partial(self._graphed, cache))
            if isinstance(with_prompts, str):
                self._prompt_tokens = 0
                reason = measure_graphs(self._memory, partial(self._graphed, cache))
                if isinstance(reason, int):
                    self._refuse(f"no CUDA graphs for prompts: {with_prompts}")
        if isinstance(reason, int):
            return reason
        self._refuse(f"no CUDA graphs: {reason}")
        return None

    def _refuse(self, reason: str) -> None:
        logger.warning("{}", reason)
        self._refusals.append(reason)

    def _graphed(self, cache: KVCache) -> GraphedForward:
        device = self._loaded.device
        return GraphedForward(
            self.forward,
            cache,
            CudaRecorder(device),
            max_rows=self._options.max_running,
            max_context=self._loaded.max_context,
            max_prompt_tokens=self._prompt_tokens,
            device=device,
        )

    def _with_adapters(self, graphed: GraphedForward, cache: KVCache) -> AdapterGraphs:
        return AdapterGraphs(
            graphed,
            self.forward,
            self._adapters,
            cache,
            CudaRecorder(self._loaded.device),
            max_rows=self._options.max_running,
            max_context=self._loaded.max_context,
        )

    def _cache_size(self, headroom: Headroom) -> CacheSize:
        return gpu_cache_size(
            self._shape,
            self._loaded.model.dtype,
            self._options,
            device=self._memory.occupancy(),
            weight_bytes=self._loaded.weight_bytes,
            headroom_bytes=headroom.num_bytes,
            headroom=str(headroom),
            max_context=self._loaded.max_context,
        )

    def _cache(self, num_blocks: int, states: NumStates) -> KVCache:
        return self._backend.cache(
            self._shape.layers,
            num_blocks=num_blocks,
            block_size=self._options.block_size,
            dtype=self._loaded.model.dtype,
            device=self._loaded.device,
            states=self._shape.pool(states.num_slots, states.running, self._loaded.device),
        )

    def _report_graphs(self, done: int, total: int) -> None:
        self._on_progress(LoadProgress("capturing CUDA graphs", done / total))
