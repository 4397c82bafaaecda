"""A plan laid out as tensors, against the plainest way to do it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.decode_buffers import Bucket, DecodeBuffers
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scoring import Scoring
from llmserve.engines.batching.schedule.sequence import Sequence


@st.composite
def plans(draw: st.DrawFn) -> tuple[StepPlan, int]:
    """Any plan, decode rows first, and its block size; sequences own more blocks than are used."""
    size = draw(st.sampled_from([1, 4, 16]))
    rows = draw(st.lists(st.tuples(st.integers(0, 70), st.integers(1, 40)), min_size=1, max_size=6))
    slices = []
    for start, length in sorted(rows, key=lambda row: row[1] > 1):
        owned = -(-(start + length) // size) + draw(st.integers(0, 2))
        blocks = draw(st.lists(st.integers(0, 10**6), min_size=owned, max_size=owned))
        ids = draw(st.lists(st.integers(0, 10**5), min_size=start + length, max_size=120))
        slices.append(Slice(Sequence(ids, blocks=blocks), start, length, draw(st.booleans())))
    return StepPlan(tuple(slices)), size


@settings(max_examples=150, deadline=None)
@given(plans())
def test_every_token_has_its_place(drawn: tuple[StepPlan, int]) -> None:
    plan, size = drawn
    batch = Batch.from_plan(plan, size, torch.device("cpu"))
    place = 0
    sampled = []
    token_ids, positions, slots = (
        tensor.tolist() for tensor in (batch.token_ids, batch.positions, batch.slots)
    )
    for row, part in enumerate(plan.slices):
        assert int(batch.query_starts[row]) == place
        assert int(batch.context_lengths[row]) == part.end
        used = -(-part.end // size)
        assert batch.block_tables[row].tolist() == (
            part.sequence.blocks[:used] + [0] * (batch.block_tables.shape[1] - used)
        )
        for position in range(part.start, part.end):
            assert token_ids[place] == part.sequence.token_ids[position]
            assert positions[place] == position
            block = part.sequence.blocks[position // size]
            assert slots[place] == block * size + position % size
            place += 1
        if part.is_sampled:
            sampled.append(place - 1)
    assert int(batch.query_starts[-1]) == place == plan.num_tokens == len(batch.slots)
    assert batch.sampled.tolist() == sampled
    assert batch.max_context == max(part.end for part in plan.slices)
    assert batch.max_query == max(part.length for part in plan.slices)
    assert batch.num_decode == sum(part.length == 1 for part in plan.slices)
    kinds = {
        tensor.dtype for tensor in (batch.token_ids, batch.positions, batch.slots, batch.sampled)
    }
    assert kinds == {torch.int64}
    kinds = {tensor.dtype for tensor in (batch.query_starts, batch.context_lengths)}
    assert kinds == {torch.int32} == {batch.block_tables.dtype}


def test_what_is_scored_comes_after_what_is_sampled() -> None:
    prompts = [Sequence(list(range(n, n + 9)), blocks=[0, 1, 2], scoring=Scoring(k, 8)) for n, k in
               ((100, 1), (200, 3))]  # fmt: skip
    plain = Sequence(list(range(300, 309)), blocks=[3, 4, 5])
    slices = (
        Slice(plain, 8, 1, is_sampled=True),
        Slice(prompts[0], 2, 4, is_sampled=False, scored=range(3, 6)),
        Slice(prompts[1], 6, 3, is_sampled=True, scored=range(6, 8)),
    )
    batch = Batch.from_plan(StepPlan(slices), 4, torch.device("cpu"))
    assert batch.sampled.tolist() == [0, 7, 2, 3, 4, 5, 6]
    assert batch.targets is not None
    assert batch.targets.token_ids.tolist() == [104, 105, 106, 207, 208]
    assert batch.targets.slices == ((3, 1), (2, 3))


def test_no_graph_runs_a_row_that_is_scored() -> None:
    def batch(scored: range) -> Batch:
        """One row decodes, before it one reads a single token of its prompt."""
        reading = Sequence([1] * 9, blocks=[0, 1, 2], scoring=Scoring(1, 8))
        slices = (
            Slice(reading, 4, 1, is_sampled=not scored, scored=scored),
            Slice(Sequence([2], blocks=[3]), 0, 1, is_sampled=True),
        )
        return Batch.from_plan(StepPlan(slices), 4, torch.device("cpu"))

    buffers = DecodeBuffers([Bucket(4, 64)], 4, torch.device("cpu"))
    assert buffers.find(batch(range(0))) is not None
    assert batch(range(4, 5)).sampled.tolist() == [1, 0]
    assert buffers.find(batch(range(4, 5))) is None
