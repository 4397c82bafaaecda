"""Recorded decode with adapters gives what eager decode gives, with a recorder that only runs the
work again, and kernels in torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from cuda_doubles import Repeater
from graph_subject import (
    BLOCK_SIZE,
    CPU,
    MAX_CONTEXT,
    MAX_ROWS,
    make_cache,
    make_forward,
    make_graphed,
    make_sequences,
)

from llmserve.engines.adapters.adapter import Adapter, LowRank
from llmserve.engines.adapters.hooks import linear_layers
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cuda.adapter_graphs import AdapterGraphs
from llmserve.engines.batching.compute.cuda.adapters import CudaAdapters
from llmserve.engines.batching.compute.cuda.low_rank_table import LowRankTable
from llmserve.engines.batching.compute.transformers_forward import TransformersForward
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.errors import InvalidRequest


class Subject:
    """A model with adapters on its graphs, and a recorder that may refuse."""

    def __init__(self, forward: TransformersForward) -> None:
        self.model = forward._model
        self.forward = forward
        self.adapters = CudaAdapters(self.model, forward.segments)
        self.cache = make_cache()
        self.recorder = Repeater()
        plain = make_graphed(forward, self.cache, Repeater())
        plain.capture()
        self.graphs = AdapterGraphs(
            plain,
            forward,
            self.adapters,
            self.cache,
            self.recorder,
            max_rows=MAX_ROWS,
            max_context=MAX_CONTEXT,
        )
        self.sequences = make_sequences(4)
        prompts = StepPlan(tuple(Slice(each, 0, each.num_tokens, True) for each in self.sequences))
        forward(Batch.from_plan(prompts, BLOCK_SIZE, CPU), self.cache)

    def attach(self, adapter_id: int, ending: str, rank: int = 4) -> None:
        source = torch.Generator().manual_seed(adapter_id)
        pairs = {
            name: LowRank(
                torch.randn(rank, shape.in_features, generator=source) / 4,
                torch.randn(shape.out_features, rank, generator=source) / 4,
            )
            for name, shape in linear_layers(self.model).items()
            if name.endswith(ending)
        }
        self.adapters.attach(adapter_id, self.adapters.prepare(Adapter("", pairs)))

    def batch(self, *adapter_ids: int) -> Batch:
        slices = []
        for sequence, adapter_id in zip(self.sequences, adapter_ids, strict=False):
            sequence.adapter_id = adapter_id
            slices.append(Slice(sequence, sequence.num_tokens - 1, 1, True))
        return Batch.from_plan(StepPlan(tuple(slices)), BLOCK_SIZE, CPU)

    def check(self, *adapter_ids: int) -> torch.Tensor:
        batch = self.batch(*adapter_ids)
        expected = self.forward(batch, self.cache).clone()
        actual = self.graphs(batch, self.cache)
        torch.testing.assert_close(actual, expected)
        return expected


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    with make_forward() as forward, torch.inference_mode():
        made = Subject(forward)

        def add(
            x: torch.Tensor,
            slots: torch.Tensor,
            table: LowRankTable,
            out: torch.Tensor,
            max_rank: int,
        ) -> None:
            """By addresses, as the kernels do."""
            pairs = {
                (pair.down.data_ptr(), pair.up.data_ptr()): pair
                for prepared in made.adapters._attached.values()
                for pair in prepared.pairs.values()
            }
            for row, slot in enumerate(slots.tolist()):
                if slot >= 0 and table.ranks[slot]:
                    pair = pairs[int(table.downs[slot]), int(table.ups[slot])]
                    assert pair.rank == table.ranks[slot] <= max_rank
                    out[row] += x[row] @ pair.down.T @ pair.up.T

        name = "llmserve.engines.batching.compute.cuda.low_rank"
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(add_low_rank=add))
        yield made


def test_rows_are_replayed_with_their_own_adapters(subject: Subject) -> None:
    subject.attach(1, "q_proj")
    subject.attach(2, "down_proj", rank=7)
    plain = subject.check(0, 0, 0)
    one = subject.check(0, 1, 2)
    assert torch.equal(one[0], plain[0])
    assert not torch.allclose(one[1], plain[1])
    other = subject.check(0, 2, 1)
    assert not torch.allclose(one[2], other[2])
    assert subject.recorder.replayed == 2


def test_graphs_are_recorded_anew_only_where_layers_or_ranks_are_new(subject: Subject) -> None:
    subject.attach(1, "q_proj")
    subject.check(1, 1)
    version = subject.adapters.version
    subject.attach(2, "q_proj")
    assert subject.adapters.version == version
    subject.check(1, 2)
    subject.attach(3, "k_proj")
    assert subject.adapters.version == version + 1
    subject.check(3, 2)
    subject.adapters.detach(2)
    subject.attach(4, "k_proj", rank=20)
    assert subject.adapters.version == version + 2
    subject.check(3, 4)
    for adapter_id in (1, 3, 4):
        subject.adapters.detach(adapter_id)
    assert not any(module._forward_hooks for module in subject.model.modules())
    subject.attach(5, "v_proj")
    subject.check(5, 0)


def test_more_adapters_than_slots_make_the_tables_grow(subject: Subject) -> None:
    for adapter_id in range(1, 12):
        subject.attach(adapter_id, "o_proj")
        subject.check(adapter_id, 1, 0)


def test_prompts_and_a_device_that_cannot_record_are_eager(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject.attach(1, "q_proj")
    sequence = subject.sequences[1]
    sequence.adapter_id = 1
    prompt = StepPlan((Slice(sequence, 0, sequence.num_tokens, True),))
    batch = Batch.from_plan(prompt, BLOCK_SIZE, CPU)
    expected = subject.forward(batch, subject.cache).clone()
    torch.testing.assert_close(subject.graphs(batch, subject.cache), expected)

    def refuse(work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(subject.recorder, "record", refuse)
    subject.check(0, 1)
    subject.check(1, 1)
    assert subject.recorder.replayed == 0


def test_compiled_models_take_no_adapters(subject: Subject) -> None:
    subject.adapters.refusal = "compiled"
    with pytest.raises(InvalidRequest, match="takes no adapters: compiled"):
        subject.attach(1, "q_proj")
