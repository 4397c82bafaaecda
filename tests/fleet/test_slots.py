"""Slots: claimed once, freed by whatever ends the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmserve.fleet.slots import Slot

HOLD = """
import sys, time
from pathlib import Path
from llmserve.fleet.slots import Slot
slot = Slot.claim(Path(sys.argv[1]), 4)
print(slot.number, flush=True)
sys.stdin.read()
"""


def test_more_workers_than_slots_are_refused(tmp_path: Path) -> None:
    slots = [Slot.claim(tmp_path, 2) for _ in range(2)]
    assert [slot.number for slot in slots] == [0, 1]
    with pytest.raises(RuntimeError, match="all 2 worker slots"):
        Slot.claim(tmp_path, 2)
    slots[0].release()
    slots[0].release()
    again = Slot.claim(tmp_path, 2)
    assert again.number == 0


def test_the_kernel_frees_the_slot_of_a_killed_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "0"
        assert Slot.claim(tmp_path, 4).number == 1
    finally:
        process.kill()
        process.communicate()
    assert Slot.claim(tmp_path, 4).number == 0
