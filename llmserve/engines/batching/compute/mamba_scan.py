"""The scan of Mamba's first version from a state that is not zero.

Neither transformers' own scan nor the kernel of mamba-ssm takes an initial state h₀. The scan is
linear in it: hₜ gets h₀ times the product of all decays up to t, so that

    yₜ += Cₜ · (exp(A · Σ dt) h₀)

is added to what the scan gives from zero.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import silu, softplus

from llmserve.engines.batching.compute.state_rows import RowGroup
from llmserve.engines.batching.compute.state_view import StateView

SCAN: Final = "mamba_selective_scan"
"""As every family's module calls it. The later version's takes an initial state."""
PIECE: Final = 256
"""Tokens whose decays are computed at once; they take as much memory as so many states."""


class _Carried(threading.local):
    """The states with which this thread's next scans begin, in order."""

    states: Iterator[torch.Tensor] | None = None


_carried: Final = _Carried()
_wrapping: Final = threading.Lock()


@contextlib.contextmanager
def carrying(module: nn.Module, view: StateView, group: RowGroup) -> Iterator[None]:
    """Scans of the module begin with the view's state meanwhile, if it has any."""
    if group.is_fresh or group.length == 1 or not _scans(module):
        yield
        return
    state = view.get_recurrent_state(0)
    assert state is not None, "rows that go on have a state"
    # (num_rows, channels, state size), or one of these for each head, each scanned on its own.
    _carried.states = iter([state] if state.dim() == 3 else state.unbind(1))
    try:
        yield
    finally:
        _carried.states = None


def _scans(module: nn.Module) -> bool:
    """Whether its file has such a scan, which then takes what is carried."""
    namespace = vars(sys.modules[type(module).__module__])
    scan = namespace.get(SCAN)
    if scan is None:
        return False
    if not hasattr(scan, "takes_carried"):
        with _wrapping:
            if not hasattr(namespace[SCAN], "takes_carried"):
                namespace[SCAN] = _carrying_scan(scan)
    return True


def _carrying_scan(scan: Callable[..., Any]) -> Callable[..., Any]:
    def carrying_scan(*args: Any, **kwargs: Any) -> Any:
        if _carried.states is None:
            return scan(*args, **kwargs)
        return scan_from(next(_carried.states), scan, *args, **kwargs)

    carrying_scan.takes_carried = True  # type: ignore[attr-defined]  # told apart by it
    return carrying_scan


def scan_from(
    state: torch.Tensor,  # (num_rows, channels, state size)
    scan: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    hidden_states: torch.Tensor,  # (num_rows, channels, length)
    dt: torch.Tensor,  # (num_rows, channels, length)
    *matrices: torch.Tensor,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan's result, (num_rows, channels, length), and the state after it; `matrices` are A,
    (channels, state size), B, and C, (num_rows, state size, length)."""
    result, last = scan(
        hidden_states,
        dt,
        *matrices,
        z=z,
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
        **kwargs,
    )
    decay, _, reading = matrices
    exact = decay.dtype
    steps = dt if delta_bias is None else dt + delta_bias.to(dt.dtype)[..., None]
    steps = (softplus(steps) if delta_softplus else steps).to(exact).cumsum(-1)
    state = state.to(exact)
    parts = []
    for some, seen in zip(
        torch.split(steps, PIECE, -1), torch.split(reading, PIECE, -1), strict=True
    ):
        decayed = torch.exp(decay[:, None] * some[..., None]) * state[:, :, None]
        parts.append(torch.einsum("rcln,rnl->rcl", decayed, seen.to(exact)))
    added = torch.cat(parts, -1)
    if z is not None:
        added = added * silu(z)
    decayed = torch.exp(decay * steps[..., -1:]) * state
    return result + added.to(result.dtype), last + decayed.to(last.dtype)
