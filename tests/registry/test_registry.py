"""The registry: names, states and leases."""

from __future__ import annotations

import contextlib

import pytest

from llmserve.clock import awake_clock
from llmserve.domain import AdapterSpec, LoadProgress, ModelSpec
from llmserve.errors import (
    ConfigurationError,
    ModelBroken,
    ModelLoading,
    ModelNotFound,
    ModelUnloaded,
)
from llmserve.registry.registry import Registry
from llmserve.registry.served import ModelStatus, ServedModel


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    registry = Registry([ModelSpec("demo", aliases=("default",))])
    with pytest.raises(ModelNotFound, match="did you mean 'demo'"):
        registry.find("dmo")
    with pytest.raises(ModelNotFound) as refused:
        registry.find("x" * 100_000)
    assert len(refused.value.message) < 300
    assert registry.find("default") is registry.find("demo") is registry.find(None)


def test_a_tag_of_ollamas_clients_counts_for_nothing_unless_it_is_a_name() -> None:
    registry = Registry([ModelSpec("demo"), ModelSpec("other", aliases=("demo:7b", "x:latest"))])
    assert registry.find("demo:latest").spec.name == "demo"
    assert registry.find("demo:7b").spec.name == registry.find("x:latest").spec.name == "other"
    for name in ("demo:8b", "x", ":latest", "demo:latest:latest"):
        with pytest.raises(ModelNotFound):
            registry.find(name)


def test_a_name_that_nobody_has_may_get_the_default_model() -> None:
    specs = [ModelSpec("demo"), ModelSpec("other")]
    with pytest.raises(ModelNotFound):
        Registry(specs).answering("gpt-4o")
    registry = Registry(specs, default="other", serves_any_name=True)
    assert registry.answering("gpt-4o").name == "other"
    assert registry.answering("demo").name == "demo"
    with pytest.raises(ModelNotFound):
        registry.find("gpt-4o")


def test_names_of_adapters_mean_them_and_their_base() -> None:
    adapters = (AdapterSpec("red", aliases=("rouge",)), AdapterSpec("blue"))
    registry = Registry([ModelSpec("demo", aliases=("nick",), adapters=adapters)])
    for name in ("demo:red", "nick:red", "rouge", "rouge:latest"):
        found = registry.resolve(name)
        assert (found.name, found.parent, found.model.spec.name) == ("demo:red", "demo", "demo")
    assert registry.find("demo:blue") is registry.find("demo")
    assert [found.name for found in registry.everything] == ["demo", "demo:red", "demo:blue"]
    assert registry.resolve("demo").permissions == ("demo", "nick")
    assert registry.resolve("rouge").permissions == (
        *("demo:red", "nick:red", "rouge"),
        *("demo:*", "nick:*"),
    )
    with pytest.raises(ModelNotFound, match="did you mean 'demo:red'"):
        registry.resolve("demo:rde")
    for name in ("demo:red", "rouge"):
        with pytest.raises(ModelBroken, match=f"the name '{name}' belongs to 'demo:red'"):
            registry.add(ModelSpec("other", aliases=(name,)))


def test_an_adapter_that_comes_or_goes_on_demand_counts_as_unloaded() -> None:
    registry = Registry([ModelSpec("demo", adapters=(AdapterSpec("red"),))])
    found = registry.resolve("demo:red")
    assert found.adapter is not None
    for status in ModelStatus:
        found.adapter.status = status
        is_settled = status in (ModelStatus.READY, ModelStatus.BROKEN)
        assert found.status is (status if is_settled else ModelStatus.UNLOADED)
    found.adapter.status, found.adapter.is_on_demand = ModelStatus.UNLOADING, False
    assert found.status is ModelStatus.UNLOADING


def test_a_name_that_is_taken_is_refused() -> None:
    registry = Registry([ModelSpec("demo", aliases=("default",))])
    with pytest.raises(ModelBroken, match="'default' belongs to 'demo'"):
        registry.add(ModelSpec("other", aliases=("default",)))
    assert [model.spec.name for model in registry.models] == ["demo"]


def test_only_a_ready_model_is_given_out() -> None:
    registry = Registry([ModelSpec("demo")])
    model = registry.find("demo")
    with pytest.raises(ModelUnloaded, match="is unloaded"):
        registry.ready("demo")
    model.status, model.progress = ModelStatus.LOADING, LoadProgress("weights", 0.25)
    with pytest.raises(ModelLoading, match="weights"):
        registry.ready("demo")
    model.status, model.error = ModelStatus.BROKEN, ModelBroken("torn")
    with pytest.raises(ModelBroken, match="torn"):
        registry.ready("demo")
    model.status, model.error = ModelStatus.READY, None
    assert registry.ready("demo") is model


def test_the_default_is_the_first_or_the_one_that_is_named() -> None:
    specs = [ModelSpec("a"), ModelSpec("b", aliases=("bee",))]
    assert Registry(specs).find(None).spec.name == "a"
    assert Registry(specs, default="bee").find(None).spec.name == "b"
    assert Registry([], on_demand=specs).find(None).spec.name == "a"
    with pytest.raises(ModelNotFound):
        Registry(specs, default="gone").find(None)
    with pytest.raises(ModelNotFound):
        Registry([]).find(None)


def test_pinned_models_and_those_on_demand_are_marked() -> None:
    registry = Registry(
        [ModelSpec("a", aliases=("ay",))], on_demand=[ModelSpec("b")], pinned=("ay",)
    )
    marks = [(m.spec.name, m.is_pinned, m.is_on_demand) for m in registry.models]
    assert marks == [("a", True, False), ("b", False, True)]


def test_a_new_incarnation_takes_over_all_names() -> None:
    registry = Registry([ModelSpec("a", aliases=("old",)), ModelSpec("b")])
    new = ServedModel(ModelSpec("a", aliases=("new",)))
    registry.replace(registry.find("a"), new)
    assert registry.find("new") is registry.find("a") is new
    with pytest.raises(ModelNotFound):
        registry.find("old")
    assert [model.spec.name for model in registry.models] == ["a", "b"]
    registry.remove(new)
    assert [model.spec.name for model in registry.models] == ["b"]


def test_a_new_incarnation_with_anothers_name_changes_nothing() -> None:
    registry = Registry([ModelSpec("a", aliases=("old",)), ModelSpec("b")])
    old = registry.find("a")
    with pytest.raises(ModelBroken, match="the name 'b' belongs to 'b' already"):
        registry.replace(old, ServedModel(ModelSpec("a", aliases=("b",))))
    assert registry.find("a") is registry.find("old") is registry.find(None) is old
    assert registry.find("b").spec.name == "b"


def test_a_model_that_is_known_to_be_broken_keeps_its_place_and_says_why() -> None:
    broken = {"a": ConfigurationError("a/model.toml: unknown key 'dtipe'")}
    registry = Registry([ModelSpec("a"), ModelSpec("b")], broken=broken)
    with pytest.raises(ModelBroken, match="dtipe"):
        registry.ready(None)
    assert registry.find("b").status is ModelStatus.UNLOADED


def test_a_lease_counts_itself_and_tells_when_it_was_used() -> None:
    now = 5.0
    assert Registry([]).clock is awake_clock, "a model that slept with its box is not idle"
    registry = Registry([ModelSpec("demo")], clock=lambda: now)
    model = registry.find("demo")
    with contextlib.suppress(RuntimeError), registry.lease(model), registry.lease(model):
        assert model.open_leases == 2
        assert not model.has_no_leases.is_set()
        now = 9.0
        raise RuntimeError
    assert model.open_leases == 0
    assert model.has_no_leases.is_set()
    assert model.used_at == 9.0
