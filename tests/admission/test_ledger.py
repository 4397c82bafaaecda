"""Tabs in files: damage, locks, names, dead processes."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import stat
from pathlib import Path

import pytest
from open_files import num_open_files
from small_disk import small_disk

from llmserve.admission import ledger as ledger_module
from llmserve.admission.holder import Holder
from llmserve.admission.ledger import Ledger, PrivateLedger, SharedLedger
from llmserve.admission.tab import Tab


@pytest.fixture(params=["private", "shared"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return PrivateLedger() if request.param == "private" else SharedLedger(tmp_path / "limits")


def use(tab: Tab) -> float:
    tab.requests.level += 1
    return tab.requests.level


def test_what_a_change_raises_comes_through_and_nothing_is_kept(ledger: Ledger) -> None:
    def fail(tab: Tab) -> None:
        use(tab)
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            ledger.update("a", fail)
    assert ledger.update("a", use) == 1


def test_a_lock_that_is_not_given_back_is_an_error_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_SECONDS", 0.01)
    ledger = SharedLedger(tmp_path)
    ledger.update("a", use)
    other = os.open(next(tmp_path.iterdir()), os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            ledger.update("a", use)
        assert ledger.update("b", use) == 1, "other callers do not wait"
    finally:
        os.close(other)
    assert ledger.update("a", use) == 2


def test_a_damaged_file_and_a_lost_directory_begin_anew(tmp_path: Path) -> None:
    directory = tmp_path / "limits"
    ledger = SharedLedger(directory)
    ledger.update("a", use)
    file = next(directory.iterdir())
    file.write_bytes(b"nonsense" * 20)
    assert ledger.update("a", use) == 1
    file.unlink()
    directory.rmdir()
    assert ledger.update("a", use) == 1


def test_of_a_write_that_the_disk_took_half_of_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SharedLedger(tmp_path)
    ledger.update("a", use)
    write = os.pwrite
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:40], at))
        with pytest.raises(OSError, match=r"40 of \d+ bytes were written"):
            ledger.update("a", lambda tab: setattr(tab.requests, "level", 99.0))
    assert ledger.update("a", use) == 2


def test_a_full_disk_is_an_error_for_a_new_caller_and_none_for_a_known_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        ledger = SharedLedger(disk.path)
        ledger.update("a", use)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            ledger.update("b", use)
        assert ledger.update("a", use) == 2
        disk.free()
        assert ledger.update("b", use) == 1


def test_a_name_is_no_path_and_is_not_told(tmp_path: Path) -> None:
    ledger = SharedLedger(tmp_path / "limits")
    for name in ("../../etc/passwd", "", "a/b", "\x00", "\ud800", "x" * 1000):
        assert ledger.update(name, use) == 1
    files = list((tmp_path / "limits").iterdir())
    assert len(files) == 6
    assert all(re.fullmatch("[0-9a-f]{64}", file.name) for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    ledger = SharedLedger(tmp_path)
    before = num_open_files()
    for number in range(20):
        ledger.update(str(number), use)
    assert num_open_files() == before


def test_a_newcomer_clears_away_who_died_and_only_them(ledger: Ledger) -> None:
    me = Holder.here()
    reused = dataclasses.replace(me, started=me.started + 1, number=7)
    neighbour, newcomer = Holder.here(), Holder.here()

    def fill(tab: Tab) -> None:
        tab.open = {me: 1, reused: 5, neighbour: 2}

    ledger.update("a", fill)
    ledger.update("a", lambda tab: tab.set_open(me, 3))
    assert ledger.update("a", lambda tab: tab.open) == {me: 3, reused: 5, neighbour: 2}
    ledger.update("a", lambda tab: tab.set_open(newcomer, 4))
    assert ledger.update("a", lambda tab: tab.open) == {me: 3, neighbour: 2, newcomer: 4}


def test_every_caller_has_a_tab_of_its_own_and_everyone_sees_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert [ledger.update("a", use), ledger.update("a", use), ledger.update("b", use)] == [1, 2, 1]
    if isinstance(ledger, SharedLedger):
        assert SharedLedger(tmp_path / "limits").update("a", use) == 3
