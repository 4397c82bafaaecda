"""Decode attention of one layer by the number of parts that contexts are cut into: rows alike, and
many short ones beside a long one."""

from __future__ import annotations

import sys

import torch

from llmserve.engines.batching.compute.attention import Variant
from llmserve.engines.batching.compute.cuda.attention import Chip
from llmserve.engines.batching.compute.cuda.graphs import CudaRecorder
from llmserve.engines.batching.compute.cuda.launch import CachedLayer, Rows
from llmserve.engines.batching.compute.cuda.paged_decode import paged_decode
from llmserve.engines.batching.compute.cuda.splits import num_splits
from measure.gpu.contact.workload import device_seconds

KV_HEADS, GROUP, HEAD_DIM, BLOCK_SIZE = 8, 4, 128, 16  # Llama-3.1-8B
CASES = {
    "8 × 1k": [1024] * 8,
    "64 × 1k": [1024] * 64,
    "64 × 8k": [8192] * 64,
    "63 × 1k and 32k": [1024] * 63 + [32768],
    "255 × 512 and 32k": [512] * 255 + [32768],
    "7 × 1k and 128k": [1024] * 7 + [131072],
}
SPLITS = (1, 2, 4, 8, 16, 32, 64)


def main() -> int:
    """Print µs for each."""
    device = torch.device("cuda:0")
    chip = Chip.of(device)
    print(f"=> µs of one layer, by parts: {', '.join(map(str, SPLITS))}")
    for name, contexts in CASES.items():
        rows, layer = _make(contexts, device)
        costs = [_seconds(rows, layer, chip, splits) for splits in SPLITS]
        chosen = num_splits(len(contexts), KV_HEADS, chip.processors, max(contexts))
        told = " ".join(f"{cost * 1e6:7.1f}" for cost in costs)
        print(f"=> {name:18} {told}   chosen {chosen}", flush=True)
    return 0


@torch.inference_mode()
def _seconds(rows: Rows, layer: CachedLayer, chip: Chip, splits: int) -> float:
    """In a CUDA graph, as in service: launched from the host a small one would wait for Python."""

    def attend() -> None:
        paged_decode(rows, layer, chip.capability, splits=splits)

    return device_seconds(CudaRecorder(rows.query.device).record(attend), 30)


@torch.inference_mode()
def _make(contexts: list[int], device: torch.device) -> tuple[Rows, CachedLayer]:
    counts = [-(-context // BLOCK_SIZE) for context in contexts]
    shape = (sum(counts) + 1, KV_HEADS, BLOCK_SIZE, HEAD_DIM)
    keys, values = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(2))
    order = torch.randperm(sum(counts)) + 1
    tables = torch.zeros(len(contexts), max(counts), dtype=torch.int32)
    begin = 0
    for row, count in enumerate(counts):
        tables[row, :count] = order[begin : begin + count]
        begin += count
    query = torch.randn(
        len(contexts), KV_HEADS * GROUP, HEAD_DIM, dtype=torch.bfloat16, device=device
    )
    rows = Rows(
        query,
        torch.arange(len(contexts) + 1, dtype=torch.int32, device=device),
        torch.tensor(contexts, dtype=torch.int32, device=device),
        tables.to(device),
        1,
    )
    return rows, CachedLayer(keys, values, Variant(HEAD_DIM**-0.5))


if __name__ == "__main__":
    sys.exit(main())
