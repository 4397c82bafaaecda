"""What an adapter's folder tells without its model: its size, and why it can be served by none.
Knows no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from llmserve.domain import AdapterSpec
from llmserve.engines.adapters.config import FILE as CONFIG
from llmserve.engines.adapters.config import LoraConfig
from llmserve.engines.adapters.unservable import Unservable

WEIGHTS: Final = "adapter_model.safetensors"
FILES: Final = (CONFIG, WEIGHTS)
"""What is read of a folder."""


def stored_bytes(spec: AdapterSpec) -> int:
    """Of an adapter's weights on disk; 0 where they are not here."""
    try:
        return 0 if spec.path is None else (spec.path / WEIGHTS).stat().st_size
    except OSError:
        return 0


def most_bytes(specs: Iterable[AdapterSpec], count: int) -> int:
    """Of the largest of them, so many of which are loaded at once."""
    return sum(sorted(map(stored_bytes, specs), reverse=True)[:count])


def problem_of(spec: AdapterSpec) -> str | None:
    """Why no model can serve an adapter; `None` if its model must decide, or it is not here yet."""
    from safetensors import SafetensorError, safe_open  # not for processes that only measure

    if spec.path is None:
        return None
    folder = spec.path
    try:
        LoraConfig.read(folder)
    except Unservable as reason:
        return str(reason)
    weights = folder / WEIGHTS
    if not weights.is_file():
        return f"there is no {WEIGHTS}"
    try:
        with safe_open(weights, framework="numpy"):
            return None
    except (OSError, SafetensorError) as error:
        return f"{WEIGHTS} cannot be read: {error}"
