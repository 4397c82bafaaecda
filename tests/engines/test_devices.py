"""Where a model goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.engines.devices import Placement, place, weight_bytes
from llmserve.errors import ModelBroken

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
    assert weight_bytes(tmp_path) == 5
    (tmp_path / "a.safetensors").write_bytes(b"x" * 3)
    assert weight_bytes(tmp_path) == 3
