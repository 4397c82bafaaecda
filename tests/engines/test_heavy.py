"""The imports that take seconds: how they are broken off, then what they leave behind."""

from __future__ import annotations

import gc
import os

import pytest

from llmserve.domain import LoadProgress
from llmserve.engines import heavy
from llmserve.errors import ModelBroken


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy, "MODULES", ("json", "llmserve.no_such_module"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("modules")
def test_they_end_where_the_caller_says_so_or_one_is_missing() -> None:
    def shut_down(progress: LoadProgress) -> None:
        if progress.fraction:
            raise ModelBroken("interrupted by a shutdown")

    with pytest.raises(ModelBroken):
        heavy.import_engines(shut_down)
    with pytest.raises(ModuleNotFoundError):
        heavy.import_engines(lambda progress: None)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_openmp_is_told_to_sleep_soon_unless_somebody_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(heavy, "MODULES", ())
    monkeypatch.setattr(os, "environ", dict(environment))
    heavy.import_engines(lambda progress: None)
    assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize(
    ("quota", "asked_for", "expected"), [(6, None, None), (2, None, "2"), (2, "5", "5")]
)
@pytest.mark.usefixtures("modules")
def test_openmp_is_told_of_a_quota(
    monkeypatch: pytest.MonkeyPatch, quota: int, asked_for: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(heavy, "MODULES", ())
    monkeypatch.setattr(heavy, "affinity", lambda: 6)
    monkeypatch.setattr(heavy, "processors", lambda: quota)
    # So that what is set meanwhile is undone.
    monkeypatch.setenv("OMP_NUM_THREADS", asked_for or "")
    if asked_for is None:
        del os.environ["OMP_NUM_THREADS"]
    heavy.import_engines(lambda progress: None)
    assert os.environ.get("OMP_NUM_THREADS") == expected
