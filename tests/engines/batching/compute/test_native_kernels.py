"""Packed products: equal to torch's, whatever the sizes, and the same on both instruction sets."""

from __future__ import annotations

import native_models
import pytest
import torch

from llmserve.engines.batching.compute.native.kernels import Kernels

# Products of bfloat16 are exact in float32; only the order of the sums differs.
TOLERANCE = 1e-5


def packed(kernels: Kernels, weight: torch.Tensor) -> torch.Tensor:
    memory = kernels.allocate(kernels.packed_numbers(*weight.shape))
    kernels.pack(weight, memory)
    return memory


@pytest.mark.parametrize("path", native_models.PATHS)
@pytest.mark.parametrize("num_columns", [16, 40, 96, 130])
@pytest.mark.parametrize("depth", [16, 64, 90, 2100])
def test_products_of_packed_weights_equal_torch(depth: int, num_columns: int, path: str) -> None:
    kernels = native_models.kernels(path=path)
    weight = torch.randn(num_columns, depth).bfloat16()
    memory = packed(kernels, weight)
    for num_rows in (1, 2, 3, 4, 5, 6, 7, 16, 17, 31, 33, 50):
        rows = torch.randn(num_rows, depth).bfloat16()
        actual = kernels.multiply(rows, memory, num_columns, tiles=path == native_models.TILES)
        expected = rows.double() @ weight.double().T
        assert native_models.error(actual.double(), expected) < TOLERANCE


def test_panels_can_be_packed_alternately() -> None:
    kernels = native_models.kernels()
    even, odd = torch.randn(2, 32, 64).bfloat16()
    memory = kernels.allocate(kernels.packed_numbers(64, 64))
    kernels.pack(even, memory, first=0, every=2)
    kernels.pack(odd, memory, first=1, every=2)
    rows = torch.randn(3, 64).bfloat16()
    expected = torch.cat([even[:16], odd[:16], even[16:], odd[16:]])
    actual = kernels.multiply(rows, memory, 64, tiles=False)
    assert native_models.error(actual, rows.float() @ expected.float().T) < TOLERANCE


def test_rows_that_lie_apart_are_packed_like_others() -> None:
    kernels = native_models.kernels()
    wide = torch.randn(48, 128).bfloat16()
    assert torch.equal(packed(kernels, wide[:, :64]), packed(kernels, wide[:, :64].contiguous()))
