"""The accounting log: disks that fail, queues that overflow, several writers; then lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from loguru import logger

from llmserve.observability import accounting
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


def test_a_disk_that_fails_is_complained_about_once_and_the_thread_lives(tmp_path: Path) -> None:
    complaints: list[str] = []
    sink = logger.add(complaints.append, level="ERROR", format="{message}")  # type: ignore[arg-type]
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    log = AccountingLog(blocked, 10_000, 2, clock=lambda: 0.0)
    for number in range(3):
        log.write(entry(str(number)))
    log.close()
    logger.remove(sink)
    assert len(complaints) == 1
    assert "may be lost" in complaints[0]


def test_what_does_not_fit_the_queue_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[str] = []
    monkeypatch.setattr(accounting, "MAX_QUEUED", 2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # a disk that is stuck until somebody reads
    log = AccountingLog(pipe, 1_000_000, 2)
    sink = logger.add(complaints.append, level="ERROR", format="{message}")  # type: ignore[arg-type]
    for number in range(300):
        log.write(entry(str(number)))
    with pipe.open("rb") as reader:
        closing = threading.Thread(target=log.close)
        closing.start()
        lines = reader.read().splitlines()
        closing.join(20)
    logger.remove(sink)
    (complaint,) = complaints
    told = re.search(r"(\d+) entries were dropped", complaint)
    assert told is not None
    assert len(lines) + int(told[1]) == 300
    assert int(told[1]) > 200


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
