"""A file that several processes append to: full disks, foreign rotation, then the usual."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
from open_files import num_open_files

from llmserve.observability import shared_file
from llmserve.observability.shared_file import SharedFile

FULL_DISK = """
import resource, sys
from collections import deque
from pathlib import Path
from llmserve.observability.shared_file import SharedFile
file = SharedFile(Path(sys.argv[1]), 10_000, 2)
lines = deque(bytes([65 + number]) * 299 + b"\\n" for number in range(6))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel writes up to it, then refuses
try:
    file.append(lines)
except OSError as error:
    print(len(lines), Path(sys.argv[1]).stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
file.append(lines)
"""


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_full_disk_leaves_no_half_line_and_what_it_refused_can_be_tried_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["3", "900"]
    assert lines_of(path) == [letter * 299 for letter in "ABCDEF"]


def test_a_path_that_cannot_be_written_keeps_the_lines(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    lines = deque([b"a\n", b"b\n"])
    file = SharedFile(tmp_path / "log", 1000, 1)
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            file.append(lines)
    assert list(lines) == [b"a\n", b"b\n"]
    (tmp_path / "log").rmdir()
    file.append(lines)
    file.close()
    assert not lines
    assert lines_of(tmp_path / "log") == ["a", "b"]


def test_a_lock_that_somebody_keeps_is_waited_for_a_while_and_the_lines_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_file, "LOCK_SECONDS", 0.02)
    file, lines = SharedFile(tmp_path / "log", 1000, 1), deque([b"a\n"])
    (tmp_path / "log.lock").touch(0o644)  # as an older version made it
    with (tmp_path / "log.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = num_open_files()
        with pytest.raises(TimeoutError, match=r"held the lock on .*log\.lock"):
            file.append(lines)
        assert num_open_files() == before
    assert list(lines) == [b"a\n"]
    file.append(lines)
    file.close()
    assert lines_of(tmp_path / "log") == ["a"]


def test_others_cannot_take_the_lock(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for made in (False, True):
            if made:
                (tmp_path / "log.lock").chmod(0o666)
            file = SharedFile(tmp_path / "log", 1000, 1)
            file.append(deque([b"a\n"]))
            file.close()
            assert stat.S_IMODE((tmp_path / "log.lock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log.lock").symlink_to(tmp_path / "elsewhere")
    lines = deque([b"a\n"])
    with pytest.raises(OSError, match="symbolic links"):
        SharedFile(tmp_path / "log", 1000, 1).append(lines)
    assert list(lines) == [b"a\n"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_somebody_else_moved_away_is_made_anew(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "log", 1000, 1)
    file.append(deque([b"a\n"]))
    (tmp_path / "log").rename(tmp_path / "taken")
    file.append(deque([b"b\n"]))
    (tmp_path / "log").unlink()
    file.append(deque([b"c\n"]))
    file.close()
    assert lines_of(tmp_path / "taken") == ["a"]
    assert lines_of(tmp_path / "log") == ["c"]


def test_a_line_longer_than_the_bound_has_a_file_of_its_own(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "log", 10, 9)
    for line in (b"x" * 20 + b"\n", b"y" * 20 + b"\n", b"z\n"):
        file.append(deque([line]))
    file.close()
    assert sorted(f.name for f in tmp_path.glob("log*")) == ["log", "log.1", "log.2", "log.lock"]
    assert (tmp_path / "log.2").read_text().startswith("x")


def test_rotated_files_move_one_further_and_the_oldest_goes(tmp_path: Path) -> None:
    file = SharedFile(tmp_path / "log", 4, 3)
    for number in range(7):
        file.append(deque([f"{number}..\n".encode()]))
    file.close()
    kept = {f.name: f.read_text()[0] for f in tmp_path.glob("log*") if f.suffix != ".lock"}
    assert kept == {"log": "6", "log.1": "5", "log.2": "4", "log.3": "3"}


def test_one_that_only_opened_the_file_finds_the_other_ones_rotation(tmp_path: Path) -> None:
    first, second = (SharedFile(tmp_path / "log", 4, 2) for _ in range(2))
    first.append(deque([b"1..\n"]))
    second.append(deque([b"2..\n"]))
    first.append(deque([b"3..\n"]))
    second.append(deque())
    first.close()
    second.close()
    kept = {f.name: f.read_text()[0] for f in tmp_path.glob("log*") if f.suffix != ".lock"}
    assert kept == {"log": "3", "log.1": "2", "log.2": "1"}
