"""Which GPUs a process sees, and as which number: nothing to see first, then as CUDA reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_nvidia_smi import gpu, install
from hypothesis import given
from hypothesis import strategies as st

from llmserve.machine.gpus import Gpu, has_gpus, hides_gpus, installed_gpus, visible_gpus

GPUS = [
    Gpu("GPU-8932f937-d72c", "H100", 10),
    Gpu("GPU-8932aaaa-0000", "H100", 20),
    Gpu("GPU-56ab1234-ffff", "H100", 30),
]


def visible(chosen: str | None, order: str | None = None) -> dict[int, int | None]:
    environment = {"CUDA_VISIBLE_DEVICES": chosen, "CUDA_DEVICE_ORDER": order}
    return visible_gpus(GPUS, {k: v for k, v in environment.items() if v is not None})


@pytest.mark.parametrize(
    ("chosen", "free"),
    [
        ("", []),
        ("-1", []),
        ("none", []),
        ("0,1,0", []),  # twice
        ("7", []),
        ("2", [30]),
        ("2,0", [30, 10]),
        (" 1 , 2", [20, 30]),
        ("1,-1,2", [20]),  # what is wrong ends the list
        ("1,9,2", [20]),
        ("1,,2", [20]),
        ("1,GPU-56ab1234-ffff", [20]),
        ("GPU-56ab1234-ffff", [30]),
        ("GPU-56,GPU-8932f", [30, 10]),
        ("GPU-56,GPU-8932,GPU-8932f", [30]),  # ambiguous
        ("GPU-56,GPU-77,GPU-8932f", [30]),
        ("GPU-56,0", [30]),
        ("GPU-56,GPU-56", []),
        ("GPU-56,GPU-56ab", []),
        ("MIG-a,MIG-b", [None, None]),
        ("MIG-GPU-8932f937-d72c/1/0", [None]),
        (None, [10, 20, 30]),
    ],
)
def test_the_list_is_read_as_cuda_reads_it(chosen: str | None, free: list[int | None]) -> None:
    assert visible(chosen) == dict(enumerate(free))


WORDS = st.sampled_from(
    ["0", "1", "2", "3", "-1", "", " 1", "+2", "2x", "x", "GPU-8932", "GPU-8932f", "GPU-8932a",
     "GPU-56", "GPU-56ab", "GPU-99", "MIG-1"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=4).map(",".join))
def test_it_is_read_as_torch_reads_it(chosen: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        numbers = torch.cuda._parse_visible_devices()
    if numbers and isinstance(numbers[0], str):
        if numbers[0].startswith("MIG-"):
            return  # torch asks CUDA itself
        uuids = [gpu.uuid for gpu in GPUS]
        numbers = torch.cuda._transform_uuid_to_ordinals(numbers, uuids)
    else:
        wrong = [place for place, number in enumerate(numbers) if number >= len(GPUS)]
        numbers = numbers[: wrong[0]] if wrong else numbers
    assert visible(chosen) == {n: GPUS[i].free_bytes for n, i in enumerate(numbers)}


def test_unlike_gpus_have_a_number_only_in_the_order_of_the_bus() -> None:
    unlike = [GPUS[0], Gpu("GPU-77", "A10", 5)]
    assert visible_gpus(unlike, {}) == {0: None, 1: None}
    assert visible_gpus(unlike, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == {0: None, 1: None}
    assert visible_gpus(unlike, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == {0: 10, 1: 5}
    assert visible_gpus(unlike, {"CUDA_VISIBLE_DEVICES": "GPU-77"}) == {0: 5}
    assert visible_gpus(unlike, {"CUDA_VISIBLE_DEVICES": ""}) == {}


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(
        tmp_path,
        [
            gpu("GPU-1", 80_000),
            gpu("GPU-2", 40_000, mig="Enabled"),
            gpu("GPU-3", 15_000, name="Tesla T4", mig="[N/A]"),
            gpu("GPU-4", "[N/A]", name="NVIDIA GB10", mig="[N/A]"),
        ],
    )
    gpus = installed_gpus()
    assert [gpu.uuid for gpu in gpus] == ["GPU-1", "GPU-2", "GPU-3", "GPU-4"]
    assert [gpu.free_bytes for gpu in gpus] == [80_000 * 2**20, None, 15_000 * 2**20, None]
    install(tmp_path, [])
    assert installed_gpus() == []


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_gpus() == []


def test_the_system_tells_whether_there_are_gpus(tmp_path: Path) -> None:
    assert not has_gpus(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert not has_gpus(tmp_path), "the driver alone is no GPU"
    (tmp_path / "proc/driver/nvidia/gpus/0000:65:00.0").mkdir(parents=True)
    assert has_gpus(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "is_hidden"),
    [(None, False), ("0", False), ("1,0", False), ("GPU-aa", False), ("MIG-aa", False),
     ("", True), ("-1", True), ("none", True), ("NoDevFiles", True)],
)  # fmt: skip
def test_whoever_hides_all_gpus_wants_none(chosen: str | None, is_hidden: bool) -> None:
    assert hides_gpus({} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}) is is_hidden
