"""How large a batch a device has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from llmserve.engines.encoding.computation import Computed
from llmserve.engines.encoding.fitting import fitting
from llmserve.engines.encoding.loading import LoadedEncoder
from llmserve.engines.encoding_task import TokenInput
from llmserve.errors import GenerationFailed, LLMServeError, OutOfMemory


@dataclass
class Loaded:
    pad_id: int = 0
    max_context: int = 100


class Device:
    """Has room for so many tokens, each of ten bytes."""

    def __init__(self, room: int, error: type[Exception] = MemoryError) -> None:
        self._room, self._error, self._used = room, error, 0

    def compute(self, inputs: Sequence[TokenInput], *, is_alone: bool) -> Computed:
        tokens = sum(map(len, inputs))
        if tokens > self._room:
            raise self._error
        self._used = 10 * tokens
        return Computed(np.zeros((len(inputs), 1), dtype=np.float32), 0)

    def diagnose(self, error: Exception) -> LLMServeError:
        is_memory = isinstance(error, MemoryError)
        return OutOfMemory("full") if is_memory else GenerationFailed("broken")

    def is_lost(self) -> bool:
        return False

    def reset(self) -> None:
        self._used = 0

    def peak(self) -> int:
        return self._used


def fit(device: Device, most: int) -> tuple[int, int]:
    loaded: Any = Loaded()
    return fitting(cast(LoadedEncoder, loaded), device, most, device)


def test_what_has_no_room_at_all_is_told() -> None:
    with pytest.raises(OutOfMemory):
        fit(Device(room=99), 1000)
    with pytest.raises(GenerationFailed):
        fit(Device(room=0, error=ValueError), 1000)


def test_a_batch_is_halved_until_it_fits() -> None:
    assert fit(Device(room=10_000), 1000) == (1000, 10_000)
    assert fit(Device(room=600), 1000) == (500, 5000)
    assert fit(Device(room=150), 1000) == (125, 1000)


def test_the_longest_input_fits_a_batch() -> None:
    assert fit(Device(room=10_000), 16) == (100, 1000)
