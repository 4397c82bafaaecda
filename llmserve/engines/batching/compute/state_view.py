"""A cache as recurrent layers of transformers know it, over the states of a few rows of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import pad


class StateView:
    """What one module reads and writes of its states while it computes rows that go on (`read`
    gives their states, (num_rows, *shape), a copy), or begin (`read` is `None`).

    It has the methods that families call; any other call raises `AttributeError`, which the trial
    at load tells.
    """

    def __init__(self, read: Callable[[str], torch.Tensor] | None) -> None:
        self._read = read
        self.states: dict[str, torch.Tensor] = {}
        """After the call: the new state of each name. Those that were only read may have been
        changed in place."""

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """`None` if the rows begin."""
        return self._get(f"conv {state_idx}")

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """`None` if the rows begin."""
        return self._get(f"recurrent {state_idx}")

    def get_linear_cache(self, layer_idx: int) -> torch.Tensor | None:
        """As MiniMax calls its recurrent state."""
        return self._get("recurrent 0")

    def update_conv_state(
        self,
        conv_states: torch.Tensor,
        layer_idx: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The state's columns and the new ones, (num_rows, channels, columns); the last of them,
        as many as the state has, are the new state."""
        name = f"conv {state_idx}"
        before = self._get(name)
        if before is None:
            size = conv_states.shape[-1] if conv_kernel_size is None else conv_kernel_size
            whole = pad(conv_states, (max(0, size - conv_states.shape[-1]), 0))
        else:
            size = before.shape[-1]
            whole = torch.cat((before, conv_states), -1)
        self.states[name] = whole[..., -size:]
        return whole

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """The new state, as it was given."""
        self.states[f"recurrent {state_idx}"] = recurrent_states
        return recurrent_states

    def set_linear_cache(self, layer_idx: int, linear_cache: torch.Tensor) -> None:
        """As MiniMax calls it."""
        self.states["recurrent 0"] = linear_cache

    def is_recording_past(self, layer_idx: int) -> bool:
        """Never: no step is taken back."""
        return False

    def _get(self, name: str) -> torch.Tensor | None:
        if self._read is None:
            return None
        if name not in self.states:
            self.states[name] = self._read(name)
        return self.states[name]
