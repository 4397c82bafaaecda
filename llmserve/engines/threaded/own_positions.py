"""Keeps position embeddings that change with length right for several generations at once.

Where a model rotates keys differently in longer texts, transformers keeps the frequencies of the
last call in the module: those of another thread's text, or of an earlier, longer one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from torch import nn

from llmserve.engines.weights.positions import CHANGING

_ORIGINAL: Final = "original_inv_freq"


def own_positions(model: nn.Module) -> None:
    """Let every call of such a module depend on its own arguments alone."""
    for module in model.modules():
        if any(kind in CHANGING for kind in _kinds(module)):
            module.forward = _OneAtATime(module)


class _OneAtATime:
    """A module's `forward` under a lock, from the state that the module began with."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._forward = module.forward
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            self._restore()
            return self._forward(*arguments, **options)

    def _restore(self) -> None:
        """Frequencies that grew with a longer text are forgotten; others are found in each call."""
        module = self._module
        for prefix in _prefixes(module):
            name = f"{prefix}max_seq_len_cached"
            if getattr(module, name, 0) > module.original_max_seq_len:
                original = getattr(module, prefix + _ORIGINAL)
                own = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(f"{prefix}inv_freq", original.to(own.device), False)
                setattr(module, name, module.original_max_seq_len)


def _kinds(module: nn.Module) -> list[str]:
    """The module's kinds of positions: one, or one for each type of layer."""
    kind = getattr(module, "rope_type", None)
    if isinstance(kind, dict):
        return list(kind.values())
    return [kind] if isinstance(kind, str) and hasattr(module, "original_max_seq_len") else []


def _prefixes(module: nn.Module) -> Iterator[str]:
    for name in [*module._buffers, *vars(module)]:
        if name.endswith(_ORIGINAL):
            yield name.removesuffix(_ORIGINAL)
