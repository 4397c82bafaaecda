"""Adapters as the kernels take them: packed, with a table of their matrices for each layer."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmserve.engines.adapters.adapter import Adapter
from llmserve.engines.adapters.pace import Pause, no_pause
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
GROUPS: Final = ((0, 1, 2), (3,), (4, 5), (6,))
"""Sites that read the same rows."""


@dataclass(frozen=True, slots=True)
class _Matrix:
    place: int
    numbers: torch.Tensor
    is_down: bool


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

    def prepare(self, adapter: Adapter, pause: Pause = no_pause) -> Packed:
        """Pack all matrices, in the order in which a step reads them."""
        table = (LowRank * (self._num_layers * len(SITES)))()
        matrices = list(self._matrices(adapter))
        sizes = [self._size(matrix) for matrix in matrices]
        memory = self._kernels.allocate(sum(sizes))
        for matrix, part in zip(matrices, torch.split(memory, sizes), strict=True):
            entry = table[matrix.place]
            if matrix.is_down:
                self._kernels.pack(matrix.numbers.bfloat16(), part)
                entry.down, entry.rank = part.data_ptr(), len(matrix.numbers)
            else:
                part.copy_(_panels(matrix.numbers.bfloat16()).flatten())
                entry.up = part.data_ptr()
            pause()
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

    def _matrices(self, adapter: Adapter) -> Iterator[_Matrix]:
        for layer in range(self._num_layers):
            for group in GROUPS:
                pairs = {
                    layer * len(SITES) + site: adapter.pairs.get(_name(layer, site))
                    for site in group
                }
                found = [(place, pair) for place, pair in pairs.items() if pair is not None]
                yield from (_Matrix(place, pair.down, True) for place, pair in found)
                yield from (_Matrix(place, pair.up, False) for place, pair in found)

    def _size(self, matrix: _Matrix) -> int:
        rows, depth = matrix.numbers.shape
        if matrix.is_down:
            return self._kernels.packed_numbers(rows, depth)
        return rows * (depth + depth % 2)


def _name(layer: int, site: int) -> str:
    return f"model.layers.{layer}.{SITES[site]}"


def _panels(up: torch.Tensor) -> torch.Tensor:
    """(columns, rank) as low_rank.h has it: (panels, rank / 2, 16 columns, pairs)."""
    columns, rank = up.shape
    even = torch.nn.functional.pad(up, (0, rank % 2))
    return even.view(columns // PANEL_ROWS, PANEL_ROWS, -1, 2).transpose(1, 2)
