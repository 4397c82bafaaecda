"""The choice among ways to attend on a GPU: what does not work is left, and told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from llmserve.domain import ModelSpec
from llmserve.engines.batching.compute import backends as module
from llmserve.engines.batching.compute.attention import TorchAttention, Variant
from llmserve.engines.batching.compute.backends import Backend, first_that_works
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.batching.compute.trial import Trial
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import DeviceLost


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    spec = ModelSpec("tiny", path=tiny_model, dtype="float32", device="cpu")
    return load_model(spec, tiny_model, lambda progress: None)


class Broken:
    """Attends never, or wrongly."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def attend(
        self, cache: KVCache, layer: int, batch: Batch, query: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return TorchAttention().attend(cache, layer, batch, query, Variant(variant.scale, 5))


def choose(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *candidates: Backend
) -> tuple[str, list[str]]:
    def offered(device: torch.device, block_size: int, refusals: list[str]) -> Iterator[Backend]:
        yield from candidates

    monkeypatch.setattr(module, "_backends", offered)
    backend, refusals = first_that_works(loaded, Trial(loaded, cache_shape(loaded), 8))
    return backend.name, refusals


GOOD = Backend("good", TorchAttention(), KVCache)


class OutOfResources(Exception):
    """As Triton raises it where shared memory is short."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("no C compiler"), "FileNotFoundError: no C compiler"),
        (subprocess.CalledProcessError(1, ["gcc"]), "CalledProcessError: Command"),
        (
            OutOfResources(
                "out of resource: shared memory, Required: 98304, Hardware limit: 65536"
            ),
            "OutOfResources: out of resource: shared memory, Required: 98304",
        ),
        (RuntimeError("Triton Error [CUDA]: device kernel image is invalid"), "RuntimeError:"),
        (None, "its results are wrong"),
    ],
)
def test_what_does_not_work_is_left_for_the_next_with_the_reason(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, error: Exception | None, reason: str
) -> None:
    name, refusals = choose(loaded, monkeypatch, Backend("bad", Broken(error), KVCache), GOOD)
    assert name == "good"
    assert len(refusals) == 1
    assert refusals[0].startswith(f"bad is not used: {reason}")


def test_a_device_that_is_full_is_no_fault_of_the_kernels(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Backend("good", Broken(torch.OutOfMemoryError("CUDA out of memory")), KVCache)
    with pytest.raises(torch.OutOfMemoryError):
        choose(loaded, monkeypatch, full, GOOD)


def test_the_first_that_works_is_taken(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = Backend("never", Broken(AssertionError("it must not be tried")), KVCache)
    assert choose(loaded, monkeypatch, GOOD, never) == ("good", [])


def test_where_nothing_works_torch_attends(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, refusals = choose(loaded, monkeypatch, Backend("bad", Broken(), KVCache))
    assert name == "attention in torch"
    assert refusals == ["bad is not used: its results are wrong"]


def test_one_that_the_model_has_no_use_for_is_passed_over_without_a_word(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Backend("for 16 bits only", TorchAttention(), KVCache, is_idle=lambda: True)
    assert choose(loaded, monkeypatch, idle, GOOD) == ("good", [])


def test_a_device_that_was_lost_is_not_served_from(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "answers", lambda device: False)
    bad = Backend("bad", Broken(RuntimeError("an illegal memory access")), KVCache)
    with pytest.raises(DeviceLost, match="does not answer any more after bad was tried"):
        choose(loaded, monkeypatch, bad, GOOD)


def test_without_triton_a_cuda_device_still_serves(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "llmserve.engines.batching.compute.cuda.attention"
    monkeypatch.setitem(sys.modules, name, None)
    backend, refusals = first_that_works(loaded, Trial(loaded, cache_shape(loaded), 8))
    assert backend.name == "attention in torch"
    assert not backend.is_capturable
    assert len(refusals) == 1
    assert refusals[0].startswith("no Triton: ")
