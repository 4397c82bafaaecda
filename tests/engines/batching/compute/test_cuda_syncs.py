"""What would wait for a device is found while it is watched, on the meta device, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from llmserve.engines.batching.compute.cuda.syncs import RefuseSyncs, WaitsForDevice

NUMBERS = torch.arange(6.0)
META = torch.empty(6, device="meta")


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda: NUMBERS.sum().item(), id="item"),
        pytest.param(lambda: bool(NUMBERS[0] > 2), id="bool"),
        pytest.param(lambda: NUMBERS.nonzero(), id="nonzero"),
        pytest.param(lambda: NUMBERS[NUMBERS > 2], id="mask"),
        pytest.param(lambda: NUMBERS.clone().index_put_((NUMBERS > 2,), NUMBERS[0]), id="put"),
        pytest.param(lambda: torch.unique(NUMBERS), id="unique"),
        pytest.param(lambda: torch.repeat_interleave(NUMBERS, NUMBERS.long()), id="repeat"),
        pytest.param(lambda: torch.zeros(6).to("meta"), id="to the device"),
        pytest.param(lambda: META.clone().copy_(NUMBERS), id="copied to the device"),
        pytest.param(lambda: torch.equal(NUMBERS, NUMBERS), id="equal"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_inference", [False, True])
def test_what_the_host_waits_for_is_refused(work: Callable[[], object], is_inference: bool) -> None:
    with (
        torch.inference_mode(is_inference),
        RefuseSyncs(),
        pytest.raises(WaitsForDevice, match="waits for the device"),
    ):
        work()


def test_what_stays_on_the_device_runs() -> None:
    with RefuseSyncs():
        rows = torch.repeat_interleave(torch.arange(2), torch.tensor([4, 2]), output_size=6)
        result = torch.where(NUMBERS > 2, NUMBERS, 0.0)[rows] + NUMBERS.to(torch.float64)
        moved = torch.zeros(6, device="meta").to(torch.bfloat16).copy_(META)
    assert result.shape == moved.shape == (6,)


def test_outside_nothing_is_refused() -> None:
    with RefuseSyncs():
        pass
    assert NUMBERS.sum().item() == 15.0
