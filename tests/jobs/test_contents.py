"""What files contain, on disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from bounded import run

from llmserve.errors import ConfigurationError
from llmserve.jobs.contents import FORGOTTEN_SECONDS, open_contents, writing

ID = "file-" + "a" * 32


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "files").iterdir())


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    contents = open_contents(tmp_path)

    async def test() -> None:
        async with writing(contents, ID) as file:
            file.write(b"0123456789")
            assert not contents.path(ID).exists()
        assert contents.read(ID, 3, 4) == b"3456"
        assert contents.path(ID).stat().st_mode & 0o777 == 0o600

    run(test)
    assert names(tmp_path) == [ID]
    contents.delete(ID)
    contents.delete(ID)
    assert names(tmp_path) == []


def test_of_a_file_that_is_broken_off_nothing_is_left(tmp_path: Path) -> None:
    contents = open_contents(tmp_path)

    async def broken_off() -> None:
        async with writing(contents, ID) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        run(broken_off)
    assert names(tmp_path) == []


def test_two_writers_of_one_output_leave_one(tmp_path: Path) -> None:
    contents = open_contents(tmp_path)
    with contents.writing(ID) as first, contents.writing(ID) as second:
        first.write(b"same")
        second.write(b"same")
    assert names(tmp_path) == [ID]
    assert contents.read(ID, 0, 10) == b"same"


def test_what_dead_writers_left_is_swept_after_a_day(tmp_path: Path) -> None:
    contents = open_contents(tmp_path)
    left = tmp_path / "files" / f"{ID}.1.2.partial"
    left.write_bytes(b"x")
    contents.sweep()
    assert left.exists()
    long_ago = time.time() - FORGOTTEN_SECONDS - 1
    os.utime(left, (long_ago, long_ago))
    contents.sweep()
    assert not left.exists()


@pytest.mark.parametrize("bad", ["../x", "file-1", "file-" + "A" * 32, ""])
def test_only_our_own_ids_are_paths(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ValueError, match="not a file's id"):
        open_contents(tmp_path).path(bad)


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("not a folder")
    with pytest.raises(ConfigurationError, match="jobs_dir"):
        open_contents(tmp_path)
