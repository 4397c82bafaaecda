"""Adapters as the kernels take them: packed, with a table of their matrices for each layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.adapters.adapter import Adapter
from llmserve.engines.adapters.adapter import LowRank as Pair
from llmserve.engines.adapters.segment import Segment
from llmserve.engines.batching.compute.native.kernels import (
    PANEL_ROWS,
    Kernels,
    LowRank,
    NativeSegment,
)

SITES: Final = (
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
)
"""`Site` in low_rank.h."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One adapter; `table` has the matrices' addresses in `memory`, for each site of each layer."""

    memory: torch.Tensor
    table: ctypes.Array[LowRank]

    @property
    def num_bytes(self) -> int:
        """Of all matrices."""
        return self.memory.nbytes


class NativeAdapters:
    """Implements `StepAdapters` for a decoder of so many layers."""

    def __init__(self, kernels: Kernels, num_layers: int) -> None:
        self._kernels = kernels
        self._num_layers = num_layers
        self._attached: dict[int, Packed] = {}

    def prepare(self, adapter: Adapter) -> Packed:
        """Pack both matrices of every module, those of a layer side by side."""
        found = list(self._places(adapter))
        sizes = [size for _, pair in found for size in self._sizes(pair)]
        memory = self._kernels.allocate(sum(sizes))
        parts = iter(torch.split(memory, sizes))
        table = (LowRank * (self._num_layers * len(SITES)))()
        for place, pair in found:
            down, up = next(parts), next(parts)
            self._kernels.pack(pair.down.bfloat16(), down)
            up.copy_(_panels(pair.up.bfloat16()).flatten())
            table[place] = LowRank(down.data_ptr(), up.data_ptr(), pair.rank)
        return Packed(memory, table)

    def attach(self, adapter_id: int, prepared: Packed) -> None:
        """Segments may have it from now on."""
        self._attached[adapter_id] = prepared

    def detach(self, adapter_id: int) -> None:
        """None has it any more."""
        self._attached.pop(adapter_id, None)

    def segments(self, segments: Sequence[Segment]) -> ctypes.Array[NativeSegment]:
        """Those of a step."""
        return (NativeSegment * len(segments))(
            *(
                NativeSegment(
                    segment.start,
                    segment.stop,
                    ctypes.addressof(self._attached[segment.adapter_id].table),
                )
                for segment in segments
            )
        )

    def _places(self, adapter: Adapter) -> Iterator[tuple[int, Pair]]:
        for layer in range(self._num_layers):
            for number, site in enumerate(SITES):
                pair = adapter.pairs.get(f"model.layers.{layer}.{site}")
                if pair is not None:
                    yield layer * len(SITES) + number, pair

    def _sizes(self, pair: Pair) -> tuple[int, int]:
        rank, depth = pair.down.shape
        return self._kernels.packed_numbers(rank, depth), len(pair.up) * (rank + rank % 2)


def _panels(up: torch.Tensor) -> torch.Tensor:
    """(columns, rank) as low_rank.h has it: (panels, rank / 2, 16 columns, pairs)."""
    columns, rank = up.shape
    even = torch.nn.functional.pad(up, (0, rank % 2))
    return even.view(columns // PANEL_ROWS, PANEL_ROWS, -1, 2).transpose(1, 2)
