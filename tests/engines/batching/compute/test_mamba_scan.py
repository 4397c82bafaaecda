"""Mamba's scan from a state that is not zero: as if the prompt had never been cut."""

from __future__ import annotations

import pytest
import torch
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from llmserve.engines.batching.compute import mamba_scan
from llmserve.engines.batching.compute.mamba_scan import scan_from

ROWS, CHANNELS, SIZE, LENGTH, CUT = 2, 6, 4, 11, 4


@pytest.mark.parametrize("piece", [256, 3])
@pytest.mark.parametrize("is_gated", [True, False])
def test_a_scan_in_two_pieces_gives_what_one_gives(
    is_gated: bool, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba_scan, "PIECE", piece)
    torch.manual_seed(3)
    channels, states = (ROWS, CHANNELS, LENGTH), (ROWS, SIZE, LENGTH)
    hidden, steps, gate = (torch.randn(channels, dtype=torch.float64) for _ in range(3))
    decay = -torch.rand(CHANNELS, SIZE, dtype=torch.float64)
    # In float32, as the scan keeps them.
    write, read = (torch.randn(states).double() for _ in range(2))
    options = {
        "D": torch.randn(CHANNELS, dtype=torch.float64),
        "delta_bias": torch.randn(CHANNELS, dtype=torch.float64),
        "delta_softplus": True,
        "return_last_state": True,
    }

    def part(start: int, stop: int, state: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        taken = [x[..., start:stop] for x in (hidden, steps, write, read, gate)]
        own = dict(options, z=taken[4] if is_gated else None)
        arguments = (taken[0], taken[1], decay, taken[2], taken[3])
        if state is None:
            return mamba_selective_scan(*arguments, **own)
        return scan_from(state, mamba_selective_scan, *arguments, **own)

    whole, last = part(0, LENGTH, None)
    first, state = part(0, CUT, None)
    second, end = part(CUT, LENGTH, state)
    torch.testing.assert_close(torch.cat((first, second), -1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(end, last, rtol=1e-5, atol=1e-5)
