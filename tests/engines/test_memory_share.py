"""What part of a device's memory a model takes beside others."""

from __future__ import annotations

import itertools

import pytest

from llmserve.engines.memory_share import MemoryShare, Occupancy

ROOMY = Occupancy(total=4000, free=2000, own=300)  # 1900 of the free ones are usable


def test_alone_it_takes_everything() -> None:
    assert MemoryShare().of(ROOMY, own_weights=300) == 1900


def test_a_worker_takes_its_part_of_the_whole_device() -> None:
    assert MemoryShare(part=0.5).of(ROOMY, own_weights=300) == 4000 * 0.95 / 2 - 300
    assert MemoryShare(part=0.5).of(Occupancy(4000, 100, 300), own_weights=300) == 95


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_workers_get_the_same_in_whatever_order_they_load(order: tuple[int, ...]) -> None:
    """Each loads its weights, then sizes its cache; the others are before, between or after."""
    share, weights, total = MemoryShare(part=1 / 3), 100, 3000
    own = [0, 0, 0]

    def occupancy(worker: int) -> Occupancy:
        return Occupancy(total, total - sum(own), own[worker])

    caches = {}
    own[order[0]] += weights
    for place, worker in enumerate(order):
        for other in order[place + 1 : place + 2]:
            own[other] += weights  # the next one loads while this one measures
        caches[worker] = share.of(occupancy(worker), weights)
        own[worker] += caches[worker]
    assert set(caches.values()) == {total * 0.95 / 3 - weights}


def test_models_to_come_get_their_weights_and_an_even_share_of_the_rest() -> None:
    assert MemoryShare(weights_to_come=400, models_to_come=2).of(ROOMY, own_weights=300) == 500
    assert MemoryShare(0.5, 400, 2).of(ROOMY, own_weights=300) == 400


def test_models_that_are_there_keep_what_their_steps_take() -> None:
    assert MemoryShare(others_steps=700).of(ROOMY, own_weights=300) == 1200


def test_a_budget_bounds_weights_and_cache_together() -> None:
    assert MemoryShare(most_bytes=500).of(ROOMY, own_weights=300) == 200
    assert MemoryShare(most_bytes=200).of(ROOMY, own_weights=300) == 0


def test_where_the_weights_to_come_take_all_nothing_is_left() -> None:
    assert MemoryShare(weights_to_come=5000, models_to_come=1).of(ROOMY, own_weights=1) == 0


def test_it_is_told() -> None:
    assert MemoryShare().arithmetic(ROOMY, 300) == "2,000 bytes free × 0.95"
    told = MemoryShare(0.5, 4000, 1, 9000, 70).arithmetic(ROOMY, 300)
    assert "at most 4,000 × 0.95 × 0.5 (this worker's part) - 300 that it has allocated" in told
    assert "- 70 for steps of the models already there" in told
    assert "at most 9,000 (models_memory_bytes) - 300 of weights" in told
    assert "4,000 for the weights of models to come, shared by 2 models" in told
