"""Settings that mean nothing on Ray are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings
from llmserve.workers.ray.applicable import REFUSED, WITHOUT_EFFECT, check_applicable

CHANGED: dict[str, Any] = {
    "workers": 2,
    "devices": ("cpu",),
    "models_on_demand": ("*",),
    "idle_unload_seconds": 5.0,
    "responses_store": Path("x.sqlite"),
    "stream_resume_seconds": 1.0,
    "grpc_port": 9000,
    "jobs_dir": Path("jobs"),
    "run_dir": Path("run"),
    "reload": True,
    "root_path": "/x",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_cannot_be_kept_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{name}` cannot be kept on Ray Serve"):
        check_applicable(Settings().model_copy(update={name: CHANGED[name]}))


def test_a_gpu_is_not_chosen_by_its_number() -> None:
    check_applicable(Settings(device="cuda:0"))
    with pytest.raises(ConfigurationError, match="`device = 'cuda:1'`"):
        check_applicable(Settings(device="cuda:1"))


def test_the_defaults_can_be_kept_and_what_is_named_exists() -> None:
    check_applicable(Settings())
    assert {*REFUSED, *WITHOUT_EFFECT} <= Settings.model_fields.keys()
