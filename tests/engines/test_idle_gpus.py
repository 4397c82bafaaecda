"""GPUs that a machine has and torch does not use are never passed over in silence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from llmserve.domain import ModelSpec
from llmserve.engines import idle_gpus
from llmserve.engines.idle_gpus import why_idle
from llmserve.engines.weights import loading
from llmserve.engines.weights.devices import place
from llmserve.engines.weights.loading import load_model
from llmserve.errors import ModelBroken

TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update\nmore"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a GPU, and a torch that sees none."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_a_build_of_torch_without_cuda_is_the_reason(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "is built without CUDA" in (why_idle(machine) or "")


def test_a_driver_that_is_too_old_is_the_reason(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError(TOO_OLD)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    told = why_idle(machine) or ""
    assert "(CUDA 13.0) finds no device that works: The NVIDIA driver" in told
    assert "(found version 11040). Please update; update the driver" in told


def test_there_is_nothing_to_tell_without_a_gpu_with_one_that_works_or_with_none_wanted(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert why_idle(tmp_path / "elsewhere") is None
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert why_idle(machine) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert why_idle(machine) is None
    assert why_idle(machine) is not None


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loading, idle_gpus):
        monkeypatch.setattr(module, "why_idle", lambda: "the driver is too old")


@pytest.mark.usefixtures("idle")
def test_a_model_that_auto_puts_on_the_cpu_says_so(tiny_model: Path) -> None:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32")
    (warning,) = load_model(spec, tiny_model, lambda progress: None).warnings
    assert warning == (
        "it is served by the CPU although this machine has GPUs: the driver is too old"
    )
    on_cpu = dataclasses.replace(spec, device="cpu")
    assert load_model(on_cpu, tiny_model, lambda progress: None).warnings == ()


@pytest.mark.usefixtures("idle")
def test_a_setting_makes_it_an_error(tiny_model: Path) -> None:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", require_gpu=True)
    with pytest.raises(ModelBroken, match=r"must be on a GPU \(require_gpu\).*driver is too old"):
        load_model(spec, tiny_model, lambda progress: None)
    on_cpu = dataclasses.replace(spec, device="cpu")
    assert load_model(on_cpu, tiny_model, lambda progress: None).placement == "cpu"


def test_without_a_gpu_the_setting_says_so(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "why_idle", lambda: None)
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", require_gpu=True)
    with pytest.raises(ModelBroken, match="this machine has none, or CUDA_VISIBLE_DEVICES"):
        load_model(spec, tiny_model, lambda progress: None)


def test_a_gpu_that_was_named_and_is_not_there_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("llmserve.engines.weights.devices.why_idle", lambda: "torch has no CUDA")
    with pytest.raises(ModelBroken, match=r"has 0 CUDA devices \(torch has no CUDA\); set"):
        place("cuda:0", 1)
