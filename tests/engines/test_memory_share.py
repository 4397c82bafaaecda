"""What part of a device's memory a model takes beside others."""

from __future__ import annotations

from llmserve.engines.memory_share import MemoryShare


def test_alone_it_takes_everything() -> None:
    assert MemoryShare().of(1000, own_weights=300) == 1000


def test_workers_divide_what_is_free() -> None:
    assert MemoryShare(part=0.25).of(1000, own_weights=300) == 250


def test_models_to_come_get_their_weights_and_an_even_share_of_the_rest() -> None:
    share = MemoryShare(weights_to_come=400, models_to_come=2)
    assert share.of(1000, own_weights=300) == 200
    assert MemoryShare(0.5, 400, 2).of(2000, own_weights=300) == 200


def test_a_budget_bounds_weights_and_cache_together() -> None:
    assert MemoryShare(most_bytes=500).of(1000, own_weights=300) == 200
    assert MemoryShare(most_bytes=200).of(1000, own_weights=300) == 0


def test_where_the_weights_to_come_take_all_nothing_is_left() -> None:
    assert MemoryShare(weights_to_come=5000, models_to_come=1).of(1000, own_weights=1) == 0


def test_it_is_told() -> None:
    assert str(MemoryShare()) == "× 1 (this worker's part)"
    told = str(MemoryShare(0.5, 4000, 1, 9000))
    assert "× 0.5 (this worker's part)" in told
    assert "at most 9,000 with its weights (models_memory_bytes)" in told
    assert "4,000 for the weights of models to come, shared by 2 models" in told
