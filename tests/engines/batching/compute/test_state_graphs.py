"""Replayed decode of models with recurrent states gives what `generate` gives: with a recorder that
only runs the work again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from cuda_doubles import Repeater, SkippingCache
from engines.batching.step_machine import BLOCK, Machine, generated
from tiny_hybrids import CONTEXT, HYBRIDS, tiny_hybrid

from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers
from llmserve.engines.batching.compute.cuda.graphs import GraphedForward
from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs
from llmserve.engines.batching.compute.headroom import LargestStep
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.compute.state_pool import ZERO
from llmserve.engines.batching.compute.state_watch import watched_states
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.weights.agreement import probe

CPU = torch.device("cpu")
META = torch.device("meta")
MAX_ROWS = 4


@pytest.mark.parametrize("family", ["qwen3_next", "mamba2"])
def test_decode_is_replayed_and_its_padding_harms_nobody(family: str) -> None:
    loaded = tiny_hybrid(family)
    prompts = [[7], [9, 8, 7, 6, 5], [*range(30, 50)]]
    expected = [generated(loaded, prompt) for prompt in prompts]
    shape = cache_shape(loaded)
    cache = SkippingCache(
        shape.layers,
        num_blocks=64,
        block_size=BLOCK,
        dtype=torch.float32,
        device=CPU,
        states=shape.pool(MAX_ROWS, MAX_ROWS, CPU),
    )
    forward = TransformersForward(loaded.model, TorchAttention(), shape.states)
    eager = Counted(forward)
    graphed = GraphedForward(
        eager,
        cache,
        Repeater(),
        max_rows=MAX_ROWS,
        max_context=CONTEXT,
        max_prompt_tokens=64,
        device=CPU,
    )
    try:
        assert graphed.capture() is None
        assert graphed.max_prompt_tokens == 0, "pieces of prompts are in no graph"
        runner = Runner(graphed, cache, CPU)
        computation = SimpleNamespace(cache=cache, prepare=runner.prepare, compute=runner.compute)
        machine = Machine(loaded, computation, budget=16, is_caching=False)  # type: ignore[arg-type]  # all that it uses
        eager.own_steps = 0
        assert machine.run([machine.add(prompt) for prompt in prompts]) == expected
        assert eager.own_steps < 6, "only those with prompts"
    finally:
        forward.close()
    assert cache.states is not None
    for states in cache.states._states.values():
        assert not any(state[ZERO].any() for state in states.values())


class Counted:
    """Counts the steps that no graph holds: the rows of those know their slices."""

    def __init__(self, forward: TransformersForward) -> None:
        self.forward = forward
        self.own_steps = 0

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        assert batch.states is not None
        self.own_steps += bool(batch.states.slices)
        return self.forward(batch, cache)


@pytest.mark.parametrize("family", ["lfm2", "mamba2"])
def test_the_largest_step_reads_states(family: str) -> None:
    loaded = tiny_hybrid(family)
    shape = cache_shape(loaded)
    cache = KVCache(
        shape.layers,
        num_blocks=1,
        block_size=BLOCK,
        dtype=torch.float32,
        device=CPU,
        states=shape.pool(MAX_ROWS, MAX_ROWS, CPU),
    )
    forward = TransformersForward(loaded.model, TorchAttention(), shape.states)
    try:
        for is_plain in (True, False):
            step = LargestStep(loaded, shape.layers, forward, cache, MAX_ROWS, is_plain=is_plain)
            step.run(40)
            step.run(3)
    finally:
        forward.close()


class NoAttention:
    """Of the right shape."""

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        return query.clone(memory_format=torch.contiguous_format)


class NoCache(KVCache):
    """Nothing is written."""

    def write(
        self, layer: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        pass


@pytest.mark.parametrize("family", HYBRIDS)
def test_decode_never_waits_for_the_device(family: str) -> None:
    loaded = tiny_hybrid(family)
    loaded.model.bfloat16()
    with watched_states(loaded.model) as states:
        loaded.model(probe(loaded.model, 8))
    shape = CacheShape((), tuple(states))
    model = loaded.model.to("meta")
    forward = TransformersForward(model, NoAttention(), shape.states)
    pool = shape.pool(MAX_ROWS, MAX_ROWS, META)
    layers = [LayerShape(1, 1)] * 8
    cache = NoCache(
        layers, num_blocks=1, block_size=16, dtype=torch.float32, device=META, states=pool
    )
    buffers = DecodeBuffers([Bucket(MAX_ROWS, 32)], 2, META, has_states=True)
    try:
        with torch.inference_mode(), RefuseSyncs():  # type: ignore[no-untyped-call]  # torch's own stub
            logits = forward(buffers.view(Bucket(MAX_ROWS, 32)), cache)
    finally:
        forward.close()
    assert logits.shape == (MAX_ROWS, 128)
