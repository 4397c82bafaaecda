"""Memory in large pages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from llmserve.engines.batching.compute.huge_pages import HUGE_PAGE, empty

CPU = torch.device("cpu")


def flags_of(address: int) -> list[str]:
    """What the system keeps in mind about the mapping that an address lies in."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name = line.split()[0]
        if "-" in name and not name.endswith(":"):
            begin, end = (int(part, 16) for part in name.split("-"))
            inside = begin <= address < end
        elif inside and name == "VmFlags:":
            return line.split()[1:]
    return []


@pytest.mark.skipif(
    sys.platform != "linux" or not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="a system without transparent huge pages",
)
def test_the_system_is_asked_for_large_pages() -> None:
    tensor = empty((8, HUGE_PAGE), torch.uint8, CPU)
    assert "hg" in flags_of(tensor.data_ptr() + tensor.nbytes // 2)


def test_less_than_a_page_is_plain_memory() -> None:
    tensor = empty((3, 5), torch.bfloat16, CPU)
    assert tensor.shape == (3, 5)
    assert tensor.dtype == torch.bfloat16
    tensor.zero_()
