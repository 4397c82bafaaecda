"""Files in memory: on file systems that cannot allocate, on full ones; then as they should be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from llmserve.observability.mapped_file import map_file, nameless_file


def test_without_room_nothing_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (tmp_path / "file").open("wb+") as file, pytest.raises(OSError, match="No space left"):
        map_file(file.fileno(), 100)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_where_nothing_can_be_allocated_a_file_is_made_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def cannot(*_: int) -> None:
        assert code is not None
        raise OSError(code, os.strerror(code))

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", cannot)
    with (tmp_path / "file").open("wb+") as file:
        memory = map_file(file.fileno(), 100)
        memory[:2] = b"hi"
        assert map_file(file.fileno(), 50)[:2] == b"hi"
    assert (tmp_path / "file").stat().st_size == 100


@pytest.mark.parametrize("has_memfd", [True, False])
def test_a_file_without_a_name_is_shared_by_its_descriptor(
    monkeypatch: pytest.MonkeyPatch, has_memfd: bool
) -> None:
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create")
    descriptor = nameless_file("test")
    try:
        map_file(descriptor, 100)[:2] = b"hi"
        assert os.pread(descriptor, 2, 0) == b"hi"
        assert os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)
