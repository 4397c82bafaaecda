"""What a model leaves of a GPU for the models that are still to come."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from llmserve.domain import ModelSpec
from llmserve.engines.memory_share import MemoryShare
from llmserve.registry.neighbours import Neighbours
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus

WEIGHTS = {"big": 400, "small": 100, "other": 30}


def registry(*names: str, on_demand: tuple[str, ...] = (), device: str = "auto") -> Registry:
    made = Registry(
        [ModelSpec(name, device=device) for name in names],
        on_demand=[ModelSpec(name, device=device) for name in on_demand],
    )
    for model in made.models:
        if not model.is_on_demand:
            model.status = ModelStatus.LOADING  # as the loader begins
    return made


def share(models: Registry, name: str = "big", gpus: int = 1, **options: Any) -> MemoryShare:
    neighbours = Neighbours(models, lambda spec: WEIGHTS[spec.name], **options)
    return neighbours.share(ModelSpec(name, device="auto"), "cuda:0", gpus)


def loaded(
    models: Registry, name: str, num_bytes: int, step_bytes: int = 0, device: str = "cuda:0"
) -> None:
    model = models.find(name)
    model.status = ModelStatus.READY
    info = SimpleNamespace(
        weight_bytes=WEIGHTS[name],
        adapter_bytes=0,
        cache_bytes=num_bytes - WEIGHTS[name],
        step_bytes=step_bytes,
        device=device,
    )
    model.engine = SimpleNamespace(info=info, stats=lambda: SimpleNamespace(pinned_bytes=0))  # type: ignore[assignment]


def test_a_model_alone_takes_everything() -> None:
    assert share(registry("big")) == MemoryShare()


def test_models_that_will_be_loaded_after_it_get_their_part() -> None:
    models = registry("big", "small", "other")
    assert share(models) == MemoryShare(weights_to_come=130, models_to_come=2)
    loaded(models, "big", 450)
    assert share(models, "small") == MemoryShare(weights_to_come=30, models_to_come=1)


@pytest.mark.parametrize("status", [ModelStatus.BROKEN, ModelStatus.UNLOADED])
def test_what_does_not_come_gets_nothing(status: ModelStatus) -> None:
    models = registry("big", "small")
    models.find("small").status = status
    assert share(models) == MemoryShare()


def test_models_on_demand_may_all_come_where_nothing_bounds_them() -> None:
    models = registry("big", on_demand=("small", "other"))
    assert share(models) == MemoryShare(weights_to_come=130, models_to_come=2)


def test_with_a_budget_the_largest_on_demand_is_the_one_to_leave_room_for() -> None:
    models = registry("big", on_demand=("other", "small"))
    assert share(models, most_bytes=1000) == MemoryShare(1.0, 100, 1, 1000)


def test_what_is_loaded_counts_against_the_budget() -> None:
    models = registry("big", on_demand=("small",))
    loaded(models, "big", 700)
    assert share(models, "small", most_bytes=1000) == MemoryShare(most_bytes=300)


def test_models_that_are_there_keep_room_for_their_steps() -> None:
    models = registry("big", "small", "other")
    loaded(models, "small", 450, step_bytes=70)
    loaded(models, "other", 450, step_bytes=9, device="cuda:1")
    assert share(models) == MemoryShare(others_steps=70)
    models.find("small").status = ModelStatus.UNLOADING
    assert share(models) == MemoryShare(others_steps=70)


def test_of_several_gpus_the_others_are_taken_first() -> None:
    models = registry("big", "small", "other")
    assert share(models, gpus=2) == MemoryShare(weights_to_come=30, models_to_come=1)
    assert share(models, gpus=3) == MemoryShare()


def test_a_model_elsewhere_is_no_neighbour() -> None:
    models = registry("big", "small", device="cuda:1")
    assert share(models) == MemoryShare()
    models = registry("big", "small", device="cuda")
    assert share(models, gpus=4) == MemoryShare(weights_to_come=100, models_to_come=1)


def test_workers_share_too() -> None:
    shared = share(registry("big", "small"), part=0.5)
    assert shared == dataclasses.replace(shared, part=0.5)
