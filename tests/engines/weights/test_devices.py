"""Where a model goes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmserve.engines.weights import devices
from llmserve.engines.weights.devices import HEADROOM, Placement, place
from llmserve.engines.weights.footprint import stored_bytes
from llmserve.errors import ModelBroken
from llmserve.machine.gpus import Gpu

GIB = 2**30


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelBroken, match=r"cuda:2 .* has 2 CUDA devices"):
        place("cuda:2", GIB, [GIB, GIB])
    with pytest.raises(ModelBroken, match="has 0 CUDA devices"):
        place("cuda", GIB, [])


@pytest.mark.parametrize(
    ("device", "free", "placement"),
    [
        ("auto", [], Placement("cpu")),
        ("cpu", [99 * GIB], Placement("cpu")),
        ("auto", [10 * GIB], Placement("cuda:0")),
        ("auto", [10 * GIB, 20 * GIB], Placement("cuda:1")),
        ("auto", [5 * GIB, 5 * GIB], Placement(None, "auto")),
        ("auto", [5 * GIB], Placement("cuda:0")),
        ("cuda", [10 * GIB, 20 * GIB], Placement("cuda:0")),
        ("cuda:1", [10 * GIB, 20 * GIB], Placement("cuda:1")),
    ],
)
def test_placement(device: str, free: list[int], placement: Placement) -> None:
    assert place(device, 8 * GIB, free) == placement


def test_weights_are_counted_from_safetensors_first(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 5)
    assert stored_bytes(tmp_path) == 5
    (tmp_path / "a.safetensors").write_bytes(b"x" * 3)
    assert stored_bytes(tmp_path) == 3


def test_a_model_that_fits_barely_without_headroom_is_spread() -> None:
    free = [8 * GIB, int(8 * GIB * HEADROOM) + 1]
    assert place("auto", 8 * GIB, free) == Placement("cuda:1")
    assert place("auto", 8 * GIB, [8 * GIB, 9 * GIB]) == Placement(None, "auto")


def test_cpu_is_never_refused_and_a_gpu_that_was_named_is_never_swapped() -> None:
    assert place("cpu", 999 * GIB, []) == Placement("cpu")
    assert place("cuda:0", 99 * GIB, [GIB, 200 * GIB]) == Placement("cuda:0")


def test_what_is_free_is_measured_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place("auto", GIB) == Placement("cpu")
    with pytest.raises(ModelBroken, match="has 0 CUDA devices"):
        place("cuda:0", GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (3 * GIB, 99 * GIB))
    assert place("auto", GIB) == Placement("cuda:0")


def test_gpus_that_are_only_looked_at_get_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask_cuda(index: int) -> tuple[int, int]:
        asked.append(index)
        return 7 * GIB, 99 * GIB

    uuids = ["aa-0", "bb-1", "cc-2"]  # in CUDA's order, which is not the driver's
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", ask_cuda)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=uuids[i])
    )
    installed = [Gpu("GPU-bb-1", "A", 9 * GIB), Gpu("GPU-aa-0", "A", 3 * GIB)]
    monkeypatch.setattr(devices, "installed_gpus", lambda: [*installed, Gpu("GPU-cc-2", "B", 0)])
    assert place("auto", GIB) == Placement("cuda:1")
    assert asked == []
    # What the driver does not tell of, CUDA is asked.
    monkeypatch.setattr(devices, "installed_gpus", lambda: [*installed, Gpu("GPU-cc-2", "B", None)])
    assert place("auto", GIB) == Placement("cuda:1")
    assert asked == [2]
    assert place("cuda:2", GIB) == Placement("cuda:2")
    assert asked == [2]


def test_a_placement_reads_as_its_device_or_its_map() -> None:
    assert str(Placement("cuda:1")) == "cuda:1"
    assert str(Placement(None, "auto")) == "device_map=auto"


def test_shards_are_summed_and_an_empty_folder_weighs_nothing(tmp_path: Path) -> None:
    assert stored_bytes(tmp_path) == 0
    for shard in range(3):
        (tmp_path / f"model-{shard}.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "config.json").write_bytes(b"x" * 1000)
    assert stored_bytes(tmp_path) == 30
