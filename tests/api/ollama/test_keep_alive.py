"""Whose wish to keep a model loaded counts, and for which models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llmserve.api.ollama.keep_alive import kept_for
from llmserve.domain import Caller, ModelSpec, Scope
from llmserve.registry.registry import Registry

ANYBODY = Caller()
ADMIN = Caller("ann", scopes=frozenset({Scope.GENERATE, Scope.ADMIN}))
USER = Caller("bob")


@pytest.mark.parametrize(
    ("caller", "name", "counts"),
    [
        (ANYBODY, "late", True),
        (ADMIN, "late", True),
        (USER, "late", False),
        (ANYBODY, "demo", False),
        (ANYBODY, "kept", False),
        (ANYBODY, "nobody", False),
        (ANYBODY, None, False),
    ],
)
def test_it_counts_for_models_on_demand_by_those_who_may_operate(
    caller: Caller, name: str | None, counts: bool
) -> None:
    late = [ModelSpec("late"), ModelSpec("kept")]
    registry = Registry([ModelSpec("demo")], on_demand=late, pinned=["kept"])
    kept = kept_for(caller, name, SimpleNamespace(registry=registry))  # type: ignore[arg-type]
    assert (kept is registry.find("late")) if counts else kept is None
