"""Headers of safetensors files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llmserve.engines.weights.stored_tensors import stored_tensors


def test_types_and_sizes_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(5, dtype=torch.uint8)}
    save_file(tensors, tmp_path / "it.safetensors", metadata={"format": "pt"})
    found = {tensor.name: tensor for tensor in stored_tensors(tmp_path / "it.safetensors")}
    assert (found["a"].kind, found["a"].num_items, found["a"].num_bytes) == ("BF16", 6, 12)
    assert (found["b"].kind, found["b"].shape, found["b"].is_float) == ("U8", (5,), False)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02" + bytes(7) + b"[]", b"x" * 9])
def test_what_is_broken_has_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(content)
    assert list(stored_tensors(tmp_path / "it.safetensors")) == []
    assert list(stored_tensors(tmp_path / "gone.safetensors")) == []
