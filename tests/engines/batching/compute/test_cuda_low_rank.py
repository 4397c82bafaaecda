"""The kernels for adapters give what matrix products give: on a GPU with `pytest -m gpu`, and
without one in Triton's interpreter, where `test_cuda_interpreter` starts this file once more."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="triton is missing; pip install triton")

from llmserve.engines.adapters.adapter import LowRank
from llmserve.engines.batching.compute.cuda.low_rank import add_low_rank
from llmserve.engines.batching.compute.cuda.low_rank_table import NO_SLOT, LowRankTable

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TARGETS = [
    pytest.param("cuda", torch.bfloat16, id="cuda-bfloat16", marks=ON_GPU),
    pytest.param("cuda", torch.float16, id="cuda-float16", marks=ON_GPU),
    pytest.param("cuda", torch.float32, id="cuda-float32", marks=ON_GPU),
]
if IS_INTERPRETED:
    TARGETS += [pytest.param("cpu", torch.float32, id="interpreted-float32")]
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
RANKS = (1, 5, 16, 40)


def random(*shape: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape).to(device, dtype)


@pytest.mark.parametrize(("device", "dtype"), TARGETS)
@pytest.mark.parametrize(("depth", "columns"), [(64, 96), (300, 20), (257, 65)])
def test_each_row_gets_what_its_slot_has(
    device: str, dtype: torch.dtype, depth: int, columns: int
) -> None:
    torch.manual_seed(0)
    pairs: list[LowRank | None] = [
        LowRank(
            random(rank, depth, device=device, dtype=dtype) / depth**0.5,
            random(columns, rank, device=device, dtype=dtype) / rank**0.5,
        )
        for rank in RANKS
    ]
    pairs.insert(2, None)  # a slot that is free, or whose adapter leaves this layer alone
    table = LowRankTable.empty(len(pairs), torch.device(device))
    for slot, pair in enumerate(pairs):
        if pair is not None:
            table.downs[slot], table.ups[slot] = pair.down.data_ptr(), pair.up.data_ptr()
            table.ranks[slot] = pair.rank
    slots = [NO_SLOT, 0, 3, 2, 4, 1, 1, NO_SLOT, 4]
    x = random(len(slots), depth, device=device, dtype=dtype)
    out = random(len(slots), columns, device=device, dtype=dtype)
    expected = out.double()
    for row, slot in enumerate(slots):
        pair = None if slot == NO_SLOT else pairs[slot]
        if pair is not None:
            expected[row] += x[row].double() @ pair.down.double().T @ pair.up.double().T
    before = out.clone()
    rows = torch.tensor(slots, dtype=torch.int32, device=device)
    add_low_rank(x, rows, table, out, max_rank=max(RANKS))
    torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for row in (0, 3, 7):
        assert torch.equal(out[row], before[row]), "rows without an adapter are not touched"
