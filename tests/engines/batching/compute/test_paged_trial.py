"""The trial on the paged cache: what it plays, and that each kind of fault is found by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmserve.engines.batching.compute import attention, paged_trial
from llmserve.engines.batching.compute.attention import TorchAttention
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import KVCache, LayerShape
from llmserve.engines.batching.compute.paged_trial import agrees_on_paged_cache, on_paged_cache
from llmserve.engines.batching.schedule.plan import StepPlan

SHAPE = CacheShape((LayerShape(2, 8),) * 2)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.25,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 32])
def test_a_model_agrees_with_itself_at_every_length(model: Any, length: int) -> None:
    assert agrees_on_paged_cache(model, SHAPE, length)


def test_the_trial_plays_what_an_engine_does(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[StepPlan] = []
    plain = Batch.from_plan

    def noted(plan: StepPlan, *others: Any) -> Batch:
        plans.append(plan)
        return plain(plan, *others)

    monkeypatch.setattr(paged_trial.Batch, "from_plan", noted)
    assert len([*on_paged_cache(model, SHAPE, 32, num_decoded=6)]) == len(plans)
    sequences = list(dict.fromkeys(part.sequence for plan in plans for part in plan.slices))
    first, second, third = sequences
    for sequence in sequences:
        parts = [p for plan in plans for p in plan.slices if p.sequence is sequence]
        assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
        assert parts[-1].end == sequence.num_tokens
        assert len(parts) > 1  # in pieces
    kinds = [[(sequences.index(p.sequence), p.length > 1) for p in plan.slices] for plan in plans]
    assert kinds.count([(0, False), (1, True)]) >= 5  # it decodes while another one joins
    assert [(1, False), (2, True)] in kinds
    last_of_first = max(n for n, kind in enumerate(kinds) if any(row == 0 for row, _ in kind))
    first_of_third = min(n for n, kind in enumerate(kinds) if any(row == 2 for row, _ in kind))
    assert first_of_third > last_of_first
    assert set(third.blocks) == set(first.blocks)
    assert third.token_ids == second.token_ids
    assert not set(first.blocks) & set(second.blocks)


def wrong_in_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = attention.attend_row

    def attend(query: torch.Tensor, *others: Any) -> torch.Tensor:
        return plain(query, *others) * (1.05 if len(query) == 1 else 1.0)

    monkeypatch.setattr(attention, "attend_row", attend)


def wrong_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TorchAttention.attend

    def attend(self: Any, cache: Any, layer: int, batch: Batch, *others: Any) -> torch.Tensor:
        result = plain(self, cache, layer, batch, *others)
        if len(batch.context_lengths) > 1:
            result[int(batch.query_starts[1]) :] *= 1.05
        return result

    monkeypatch.setattr(TorchAttention, "attend", attend)


def wrong_in_blocks_that_were_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = KVCache.write
    written: dict[int, set[int]] = {}

    def write(self: Any, layer: int, slots: torch.Tensor, *others: torch.Tensor) -> None:
        known = written.setdefault(layer, set())
        new = [n for n, slot in enumerate(slots.tolist()) if slot not in known]
        known.update(slots.tolist())
        plain(self, layer, slots[new], *(tensor[new] for tensor in others))

    monkeypatch.setattr(KVCache, "write", write)


def wrong_beyond_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = attention.attend_row

    def attend(query: torch.Tensor, keys: torch.Tensor, *others: Any) -> torch.Tensor:
        return plain(query, keys, *others) * (1.05 if keys.shape[1] > 30 else 1.0)

    monkeypatch.setattr(attention, "attend_row", attend)


@pytest.mark.parametrize(
    "fault",
    [
        wrong_in_decode,
        wrong_beside_another,
        wrong_in_blocks_that_were_used,
        wrong_beyond_a_length,
    ],
)
def test_a_fault_is_found(
    model: Any, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    fault(monkeypatch)
    assert not agrees_on_paged_cache(model, SHAPE, 32)


def test_the_model_has_its_own_attention_again_if_nobody_reads_on(model: Any) -> None:
    before = model.config._attn_implementation
    steps = on_paged_cache(model, SHAPE, 32, num_decoded=1)
    next(steps)
    steps.close()
    assert model.config._attn_implementation == before
