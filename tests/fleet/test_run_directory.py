"""The run directory: taken by another, vanished, made by somebody else; then kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger
from open_files import num_open_files

from llmserve.errors import ConfigurationError
from llmserve.fleet import run_directory as module
from llmserve.fleet.held_file import HeldFile
from llmserve.fleet.run_directory import LIMITS, METRICS, SOCKETS, RunDirectory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    made = RunDirectory(tmp_path / "deep" / "run")
    made.keep()
    yield made
    made.close()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    log: list[str] = []
    sink = logger.add(log.append, format="{message}", level="WARNING")
    yield log
    logger.remove(sink)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_in_use(path: Path) -> bool:
    """As a cleaner sees it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_it_is_made_for_its_user_alone_and_a_cleaner_sees_that_it_is_used(
    directory: RunDirectory,
) -> None:
    for path in (directory.path, *(directory.path / n for n in (METRICS, LIMITS, SOCKETS))):
        assert mode(path) == 0o700
    assert is_in_use(directory.path)
    directory.close()
    assert not is_in_use(directory.path)


def test_what_vanishes_is_made_anew_held_and_told_once(
    directory: RunDirectory, warnings: list[str]
) -> None:
    other = RunDirectory(directory.path)
    for one in (directory, other):
        one.keep()
    assert warnings == []
    shutil.rmtree(directory.path)
    for _ in range(2):
        for one in (directory, other):
            one.keep()
    assert (mode(directory.path), is_in_use(directory.path)) == (0o700, True)
    assert len(warnings) == 1
    assert f"{directory.path} had vanished and was made again" in warnings[0]
    (directory.path / METRICS).rmdir()
    directory.keep()
    assert (directory.path / METRICS).is_dir()
    assert f"{directory.path / METRICS} had vanished" in warnings[1]
    other.close()


def test_one_server_owns_it_and_still_does_when_its_lock_was_removed(
    directory: RunDirectory,
) -> None:
    directory.own()
    other = RunDirectory(directory.path)
    other.keep()
    for removed in ("nothing", module.LOCK, "."):
        if removed == ".":
            shutil.rmtree(directory.path)
        else:
            (directory.path / removed).unlink(missing_ok=True)
        for one in (directory, other):
            one.keep()
        with pytest.raises(ConfigurationError, match="another llmserve runs in"):
            other.own()
    directory.close()
    other.own()
    other.close()


def test_who_was_faster_to_own_a_new_one_has_it(directory: RunDirectory) -> None:
    directory.own()
    shutil.rmtree(directory.path)
    other = RunDirectory(directory.path)
    other.keep()
    other.own()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="another llmserve"):
            directory.keep()
    other.close()
    directory.keep()


@pytest.mark.parametrize("instead", ["foreign", "link", "file"])
def test_what_takes_its_name_is_not_used_and_the_one_that_is_held_is_worked_in(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    here = directory.held_path
    directory.path.rename(directory.path.with_name("gone"))
    decoy = directory.path.with_name("decoy") if instead == "link" else directory.path
    if instead == "file":
        decoy.touch()
    else:
        decoy.mkdir()
    if instead == "link":
        directory.path.symlink_to(decoy)
    with monkeypatch.context() as patched:
        if instead == "foreign":
            patched.setattr(HeldFile, "user", 12345)
        with pytest.raises(OSError, match=r"belongs to another user|not a directory"):
            directory.keep()
        (directory.held_path / METRICS / "mine").touch()
        assert (directory.path.with_name("gone") / METRICS / "mine").exists()
    if decoy.is_dir():
        assert list(decoy.iterdir()) == []
        directory.path.unlink() if instead == "link" else decoy.rmdir()
    else:
        decoy.unlink()
    directory.keep()
    assert (directory.path / METRICS).is_dir()
    assert directory.held_path == here
    assert os.path.samestat(here.stat(), directory.path.stat())


def test_before_anything_is_held_nothing_can_be_found_or_made_there(tmp_path: Path) -> None:
    before = num_open_files()
    directory = RunDirectory(tmp_path / "run")
    here = directory.held_path
    with pytest.raises(NotADirectoryError):
        (here / METRICS).mkdir()
    directory.keep()
    assert sorted(p.name for p in here.iterdir()) == [LIMITS, METRICS, SOCKETS]
    directory.close()
    assert num_open_files() == before


def test_a_part_of_it_that_is_no_directory_or_another_users_is_told(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory.path / METRICS).rmdir()
    (directory.path / METRICS).touch()
    with pytest.raises(NotADirectoryError, match="metrics is not a directory"):
        directory.keep()
    (directory.path / METRICS).unlink()
    directory.keep()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_is_ours", lambda user: False)
        with pytest.raises(PermissionError, match="metrics belongs to another user"):
            directory.keep()


def test_what_took_its_name_is_not_removed_with_it(directory: RunDirectory) -> None:
    directory.path.rename(directory.path.with_name("gone"))
    directory.path.touch()
    directory.remove()
    assert directory.path.exists()


def test_one_that_another_process_made_anew_is_removed(directory: RunDirectory) -> None:
    shutil.rmtree(directory.path)
    directory.path.mkdir()
    directory.remove()
    assert not directory.path.exists()


def test_a_link_to_it_is_followed_once_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    directory = RunDirectory(tmp_path / "link")
    directory.keep()
    assert directory.path == tmp_path / "real"
    assert (tmp_path / "real" / METRICS).is_dir()
    directory.close()


def test_leftovers_of_the_last_server_go_and_what_keys_used_stays(directory: RunDirectory) -> None:
    for name in (METRICS, SOCKETS, LIMITS):
        (directory.path / name / "left").touch()
    (directory.path / "models.json").touch()
    directory.remove_leftovers()
    assert sorted(str(p.relative_to(directory.path)) for p in directory.path.rglob("*")) == [
        LIMITS, f"{LIMITS}/left", METRICS, "models.json", SOCKETS,
    ]  # fmt: skip


def test_removed_it_leaves_nothing(tmp_path: Path) -> None:
    before = num_open_files()
    directory = RunDirectory(tmp_path / "run")
    directory.keep()
    directory.own()
    directory.remove()
    directory.close()
    assert not (tmp_path / "run").exists()
    assert num_open_files() == before
