"""Where a run directory lies: nowhere, beside dead and living ones; then in which order."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from llmserve.errors import ConfigurationError
from llmserve.fleet.location import YOUNG_SECONDS, fresh_run_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of these tests, where nothing is left by others."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
    return folder


def age(path: Path) -> None:
    then = time.time() - 2 * YOUNG_SECONDS
    os.utime(path, (then, then))


def test_without_any_place_the_setting_is_named(tmp_path: Path, temporary: Path) -> None:
    temporary.rmdir()
    temporary.touch()
    home = tmp_path / "file"
    home.touch()
    with pytest.raises(ConfigurationError, match=r"temporary: .*; set `run_dir`"):
        fresh_run_directory({"HOME": str(home)})


def test_a_servers_is_left_alone_while_it_lives_and_removed_when_it_is_dead(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    living, dead = (fresh_run_directory(environment) for _ in range(2))
    dead.close()
    for directory in (living, dead):
        age(directory.path)
    foreign = living.path.parent / "of-something-else"
    foreign.mkdir()
    age(foreign)
    fresh = fresh_run_directory(environment)
    assert living.path.is_dir()
    assert foreign.is_dir()
    assert not dead.path.exists()
    assert fresh.path not in (living.path, dead.path)
    for directory in (living, fresh):
        directory.remove()


def test_one_that_was_just_made_and_is_not_held_yet_stays(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    just_made = fresh_run_directory(environment)
    just_made.close()
    fresh_run_directory(environment).remove()
    assert just_made.path.is_dir()


def test_the_places_are_tried_in_turn(tmp_path: Path, temporary: Path) -> None:
    service, state, home, runtime = (tmp_path / n for n in ("service", "state", "home", "runtime"))
    environment = {
        "RUNTIME_DIRECTORY": f"{service}:{tmp_path / 'another'}",
        "XDG_STATE_HOME": str(state),
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
    }
    expected = {
        "": service,
        "RUNTIME_DIRECTORY": state / "llmserve",
        "XDG_STATE_HOME": home / ".local" / "state" / "llmserve",
        "HOME": runtime / "llmserve",
        "XDG_RUNTIME_DIR": temporary,
    }
    for gone, folder in expected.items():
        environment.pop(gone, None)
        directory = fresh_run_directory(environment)
        assert directory.path.parent == folder
        directory.remove()


def test_a_place_that_cannot_be_written_to_is_passed_over(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "home").touch()
    directory = fresh_run_directory({"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": "relative"})
    assert directory.path.parent == temporary
    assert directory.path.name.startswith("llmserve-")
    directory.remove()
