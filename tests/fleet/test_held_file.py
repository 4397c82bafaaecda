"""Held, whatever becomes of the name."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from open_files import num_open_files

from llmserve.fleet.held_file import HeldFile


def test_it_is_at_its_name_until_that_is_removed_or_given_to_another(tmp_path: Path) -> None:
    held, path = HeldFile(), tmp_path / "held"
    assert not held.is_at(path)
    path.mkdir()
    held.open(path, os.O_RDONLY | os.O_DIRECTORY)
    assert held.is_at(path)
    assert held.user == os.geteuid()
    path.rmdir()
    assert not held.is_at(path)
    path.mkdir()
    assert not held.is_at(path)
    held.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    held = HeldFile()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        held.open(tmp_path / "link", os.O_RDONLY | os.O_DIRECTORY)
    assert not held.is_at(tmp_path)


def test_of_two_only_one_has_it_alone(tmp_path: Path) -> None:
    before = num_open_files()
    one, other = HeldFile(), HeldFile()
    for held in (one, other):
        held.open(tmp_path, os.O_RDONLY)
    assert one.lock(fcntl.LOCK_SH)
    assert other.lock(fcntl.LOCK_SH)
    assert not other.lock(fcntl.LOCK_EX)
    one.close()
    one.close()
    assert other.lock(fcntl.LOCK_EX)
    other.close()
    assert num_open_files() == before


def test_what_is_taken_over_has_the_number_of_what_was_held(tmp_path: Path) -> None:
    before = num_open_files()
    for name in "ab":
        (tmp_path / name).mkdir()
    held, other = HeldFile(), HeldFile()
    held.open(tmp_path / "a", os.O_RDONLY | os.O_DIRECTORY)
    number = held.descriptor
    other.open(tmp_path / "b", os.O_RDONLY | os.O_DIRECTORY)
    held.take_over(other)
    assert (held.descriptor, other.descriptor) == (number, None)
    assert held.is_at(tmp_path / "b")
    held.close()
    assert num_open_files() == before
