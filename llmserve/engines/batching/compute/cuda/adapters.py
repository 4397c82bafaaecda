"""Adapters on a GPU: segments of rows by matrix products, or, in a graph, each row by our kernels
with what the tables have in its slot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn

from llmserve.engines.adapters.hooks import HookedAdapters, Prepared
from llmserve.engines.adapters.segment import Segment
from llmserve.engines.batching.compute.cuda.low_rank_table import NO_SLOT, LowRankTable

LEAST_SLOTS: Final = 8


class CudaAdapters(HookedAdapters):
    """`version` changes when graphs that were recorded do not hold any more: when a layer is
    changed for the first time, or the tables have grown. Owned by the thread that computes."""

    def __init__(self, model: Any, active: Callable[[], Sequence[Segment]]) -> None:
        super().__init__(model, active)
        self.version = 0
        self._device: torch.device = model.device
        self._slots: list[int | None] = [None] * LEAST_SLOTS
        self._tables: dict[str, LowRankTable] = {}
        self._max_rank = 0
        self._rows: torch.Tensor | None = None

    def attach(self, adapter_id: int, prepared: Prepared) -> None:
        """Its matrices are in the tables from now on."""
        super().attach(adapter_id, prepared)
        if None not in self._slots:
            self._slots += [None] * len(self._slots)
            self._tables.clear()
        self._slots[self._slots.index(None)] = adapter_id
        rank = max(pair.rank for pair in prepared.pairs.values())
        if rank > self._max_rank or prepared.pairs.keys() - self._tables.keys():
            self._max_rank = max(rank, self._max_rank)
            for name in prepared.pairs.keys() | self._tables.keys():
                self._tables.setdefault(name, LowRankTable.empty(len(self._slots), self._device))
            self.version += 1
        self._fill()

    def detach(self, adapter_id: int) -> None:
        """Its slot is free. With the last one, hooks and graphs go."""
        super().detach(adapter_id)
        self._slots = [None if each == adapter_id else each for each in self._slots]
        if not self._attached:
            self._tables.clear()
            self._max_rank = 0
            self.version += 1
        self._fill()

    def slots(self, segments: Sequence[Segment], num_rows: int) -> list[int]:
        """Of each row of a step."""
        slots = [NO_SLOT] * num_rows
        for segment in segments:
            stop = num_rows if segment.stop is None else segment.stop
            slot = self._slots.index(segment.adapter_id)
            slots[segment.start : stop] = [slot] * (stop - segment.start)
        return slots

    @contextlib.contextmanager
    def by_row(self, slots: torch.Tensor) -> Iterator[None]:
        """What is computed meanwhile takes each row's slot, (num_rows,) int32, from this memory."""
        self._rows = slots
        try:
            yield
        finally:
            self._rows = None

    def _add(
        self, name: str, layer: nn.Module, arguments: tuple[Any, ...], result: torch.Tensor
    ) -> torch.Tensor | None:
        if self._rows is None:
            return super()._add(name, layer, arguments, result)
        from llmserve.engines.batching.compute.cuda.low_rank import add_low_rank

        x = arguments[0]
        out = result.reshape(-1, result.shape[-1]).contiguous()
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        add_low_rank(rows, self._rows, self._tables[name], out, self._max_rank)
        return out.view(result.shape)

    def _fill(self) -> None:
        attached = [
            None if adapter_id is None else self._attached[adapter_id].pairs
            for adapter_id in self._slots
        ]
        for name, table in self._tables.items():
            pairs = [None if pairs is None else pairs.get(name) for pairs in attached]
            for tensor, values in (
                (table.downs, [0 if pair is None else pair.down.data_ptr() for pair in pairs]),
                (table.ups, [0 if pair is None else pair.up.data_ptr() for pair in pairs]),
                (table.ranks, [0 if pair is None else pair.rank for pair in pairs]),
            ):
                tensor.copy_(torch.tensor(values, dtype=tensor.dtype))
