"""Which deployment serves which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.domain import AdapterSpec, ModelSpec
from llmserve.workers.ray.deployments import Deployments

SPECS = [
    ModelSpec("a", path=Path("a"), aliases=("first",)),
    ModelSpec(
        "b",
        path=Path("b"),
        aliases=("second", "b:8b"),
        adapters=(AdapterSpec("red", path=Path("r"), aliases=("rouge",)),),
    ),
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *((None, "a"), ("a", "a"), ("second", "b"), ("b:latest", "b"), ("b:8b", "b"), ("c", None)),
        *(("b:red", "b"), ("rouge", "b"), ("second:later", "b"), ("c:later", None)),
    ],
)
def test_a_model_is_found_by_each_of_its_names(name: str | None, found: str | None) -> None:
    assert Deployments.of(SPECS, None).find(name) == found


def test_the_default_may_be_an_alias() -> None:
    assert Deployments.of(SPECS, "second").find(None) == "b"
    assert Deployments.of(SPECS, "second:red").find(None) == "b"
