"""The accounting log: disks that fail, queues that overflow, several writers; then lines."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from loguru import logger

from llmserve.observability import accounting, shared_file
from llmserve.observability.accounting import AccountingEntry, AccountingLog

WRITER = """
import sys
from pathlib import Path
from llmserve.observability.accounting import AccountingEntry, AccountingLog
name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
log = AccountingLog(path, max_bytes=4096, keep=1000)
for number in range(count):
    log.write(AccountingEntry("t", f"{name}-{number}", name, "m", 1, 2, 0, "stop", 0.0, None, 1.0))
log.close()
"""


def entry(request_id: str) -> AccountingEntry:
    return AccountingEntry("t", request_id, "k", "m", 3, 5, 1, "stop", 0.5, 0.75, 1.25)


class Complaints(list[str]):
    """What is logged as an error while it is entered."""

    def __enter__(self) -> Complaints:
        self._sink = logger.add(
            lambda m: self.append(m.record["message"]), level="ERROR", filter=accounting.__name__
        )
        return self

    def __exit__(self, *error: object) -> None:
        logger.remove(self._sink)

    def lost(self) -> list[int]:
        return [int(line.split()[0]) for line in self if "are lost" in line]


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.001)


def test_a_disk_that_fails_is_complained_about_once_and_what_it_took_with_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "blocked").mkdir()
    with Complaints() as complaints:
        log = AccountingLog(tmp_path / "blocked", 10_000, 2, clock=lambda: 0.0)
        for number in range(3):
            log.write(entry(str(number)))
        log.close()
    assert [line.startswith("cannot write") for line in complaints].count(True) == 1
    assert sum(complaints.lost()) == 3


def test_a_disk_that_fails_and_recovers_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "RETRY_SECONDS", 0.001)
    path = tmp_path / "usage.jsonl"
    path.mkdir()
    with Complaints() as complaints:
        log = AccountingLog(path, 10_000, 2, clock=lambda: 0.0)
        log.write(entry("0"))
        until(lambda: bool(complaints), "a complaint")
        path.rmdir()
        until(path.is_file, "the file")
        log.write(entry("1"))
        log.close()
    assert len(complaints) == 1
    assert [json.loads(line)["request_id"] for line in path.read_text().splitlines()] == ["0", "1"]


def test_complaints_come_again_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "RETRY_SECONDS", 0.001)
    now = [0.0]
    (tmp_path / "blocked").mkdir()
    with Complaints() as complaints:
        log = AccountingLog(tmp_path / "blocked", 10_000, 2, clock=lambda: now[0])
        log.write(entry("0"))
        until(lambda: len(complaints) == 1, "the first complaint")
        now[0] = accounting.COMPLAIN_SECONDS
        until(lambda: len(complaints) == 2, "the second complaint")
        log.close()
    assert sum(complaints.lost()) == 1


def test_what_does_not_fit_the_queue_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "MAX_QUEUED", 2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # a disk that is stuck until somebody reads
    with Complaints() as complaints:
        log = AccountingLog(pipe, 1_000_000, 2, clock=lambda: 0.0)
        for number in range(300):
            log.write(entry(str(number)))
        assert complaints.lost() == [1], "at once, but not for each"
        with pipe.open("rb") as reader:
            closing = threading.Thread(target=log.close)
            closing.start()
            lines = reader.read().splitlines()
            closing.join(20)
    assert [json.loads(line)["request_id"] for line in lines] == ["0", "1"]
    assert complaints.lost() == [1, 297]


def test_a_lock_that_somebody_keeps_holds_up_no_stop_and_what_it_cost_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    wait = shared_file.wait_for_lock

    def count(descriptor: int, seconds: float) -> None:
        tried.append(descriptor)
        wait(descriptor, seconds)

    monkeypatch.setattr(shared_file, "LOCK_SECONDS", 0.02)
    monkeypatch.setattr(shared_file, "wait_for_lock", count)
    with Complaints() as complaints, (tmp_path / "log.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = AccountingLog(tmp_path / "log", 10_000, 2, clock=lambda: 0.0)
        for number in range(20 * accounting.BATCH):
            log.write(entry(str(number)))
        tries = len(tried)
        log.close()
    assert len(tried) - tries <= 4, "not one for each batch"
    assert "held the lock" in complaints[0]
    assert sum(complaints.lost()) == 20 * accounting.BATCH


def test_what_comes_after_closing_is_told_to_be_lost(tmp_path: Path) -> None:
    log = AccountingLog(tmp_path / "log", 10_000, 2)
    log.close()
    with Complaints() as complaints:
        log.write(entry("late"))
    assert complaints.lost() == [1]
    assert (tmp_path / "log").read_text() == ""


def test_a_name_that_is_no_text_is_escaped_and_the_thread_lives(tmp_path: Path) -> None:
    log = AccountingLog(tmp_path / "log", 10_000, 2)
    log.write(replace(entry("0"), key="\ud800"))
    log.write(entry("1"))
    log.close()
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["key"] for line in found] == ["\ud800", "k"]


def test_no_thread_is_left(tmp_path: Path) -> None:
    log = AccountingLog(tmp_path / "log", 10_000, 2)
    log.close()
    log.close()
    assert "accounting" not in [thread.name for thread in threading.enumerate()]


def test_an_entry_is_a_line_of_json(tmp_path: Path) -> None:
    log = AccountingLog(tmp_path / "deep" / "usage.jsonl", 10_000, 2)
    log.write(entry("r1"))
    log.close()
    log.close()
    (line,) = (tmp_path / "deep" / "usage.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "time": "t",
        "request_id": "r1",
        "key": "k",
        "model": "m",
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "cached_tokens": 1,
        "outcome": "stop",
        "queue_seconds": 0.5,
        "ttft_seconds": 0.75,
        "duration_seconds": 1.25,
    }


def test_the_file_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    log = AccountingLog(path, max_bytes=1000, keep=2)
    for number in range(40):
        log.write(entry(str(number)))
    log.close()
    names = {file.name for file in tmp_path.glob("usage.jsonl*")}
    assert names == {"usage.jsonl", "usage.jsonl.1", "usage.jsonl.2", "usage.jsonl.lock"}
    assert all(file.stat().st_size <= 1000 for file in tmp_path.glob("usage.jsonl*"))
    last = path.read_text().splitlines()[-1]
    assert json.loads(last)["request_id"] == "39"


def test_several_processes_lose_and_tear_nothing_while_they_rotate(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    count = 300
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(path), str(count)])
        for name in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    files = [file for file in tmp_path.glob("usage.jsonl*") if not file.name.endswith(".lock")]
    assert len(files) > 10
    lines = [line for file in files for line in file.read_text().splitlines()]
    found = sorted(json.loads(line)["request_id"] for line in lines)
    assert found == sorted(f"{name}-{number}" for name in "abcd" for number in range(count))
