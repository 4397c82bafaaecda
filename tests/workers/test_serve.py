"""The run directory of a server: one that cannot be had; then a given one, and a fresh one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from llmserve.errors import ConfigurationError
from llmserve.fleet import run_directory, socket_address
from llmserve.fleet.run_directory import LIMITS, METRICS
from llmserve.workers.serve import _run_directory


def test_a_run_dir_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"run_dir .*/file/run cannot be used: .*another"),
        _run_directory(tmp_path / "file" / "run"),
    ):
        pass


def test_a_second_server_in_the_same_run_dir_is_refused_and_the_next_one_is_not(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        with (
            _run_directory(tmp_path / "run"),
            pytest.raises(ConfigurationError, match="another llmserve runs in"),
            _run_directory(tmp_path / "run"),
        ):
            pass
    assert (tmp_path / "run").is_dir()


def test_where_no_way_leads_around_a_long_path_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (socket_address, run_directory):
        monkeypatch.setattr(module, "OPEN_FILES", tmp_path / "no-proc")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 50)))
    for asked_for in (tmp_path / ("long" * 50) / "run", None):
        with (
            pytest.raises(ConfigurationError, match="too long for Unix sockets; set `run_dir`"),
            _run_directory(asked_for),
        ):
            pass
    assert list((tmp_path / ("long" * 50) / "llmserve").iterdir()) == []


def test_what_the_last_server_left_is_gone_but_what_keys_used(tmp_path: Path) -> None:
    for name in (METRICS, LIMITS):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "left").touch()
    with _run_directory(tmp_path / "run") as directory:
        assert list((directory.path / METRICS).iterdir()) == []
        assert (directory.path / LIMITS / "left").exists()


def test_without_one_it_is_fresh_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with _run_directory(None) as one, _run_directory(None) as other:
        assert one.path.parent == other.path.parent == tmp_path / "state" / "llmserve"
        assert one.path != other.path
    assert list((tmp_path / "state" / "llmserve").iterdir()) == []
