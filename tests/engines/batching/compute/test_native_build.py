"""Building the kernels: once, by one of many, and never with an exception."""

from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import native_models
import pytest
from small_disk import small_disk

from llmserve.engines.batching.compute.native import build
from llmserve.engines.batching.compute.native.instructions import INSTRUCTION_SETS


@pytest.fixture
def compiler() -> None:
    """Skips where nothing can be built."""
    native_models.kernels()


@pytest.fixture
def compiler_runs(compiler: None, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The libraries that a compiler was started for."""
    runs: list[Path] = []
    compile_really = build._compile

    def counted(compiler: str, options: Sequence[str], library: Path) -> str | None:
        runs.append(library)
        return compile_really(compiler, options, library)

    monkeypatch.setattr(build, "_compile", counted)
    return runs


@pytest.fixture
def small_sources(compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that compile in no time."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "decoder.cpp").write_text('extern "C" int answer() { return 42; }\n')
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


def load(cache_dir: Path | None = None) -> ctypes.CDLL | str:
    """For whatever instructions; these sources have none of their own."""
    return build.load_library(INSTRUCTION_SETS[0], cache_dir)


def test_four_that_start_at_once_compile_once(
    tmp_path: Path, small_sources: Path, compiler_runs: list[Path]
) -> None:
    found: list[ctypes.CDLL | str] = []
    begin = threading.Barrier(4)

    def load_too() -> None:
        begin.wait()
        found.append(load(tmp_path / "cache"))

    # Each opens the lock's file anew, and so waits as another process would.
    threads = [threading.Thread(target=load_too) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [library.answer() for library in found if isinstance(library, ctypes.CDLL)] == [42] * 4
    assert len(compiler_runs) == 1


def test_a_later_start_finds_the_library(
    tmp_path: Path, small_sources: Path, compiler_runs: list[Path]
) -> None:
    load(tmp_path)
    load(tmp_path)
    assert len(compiler_runs) == 1


def test_a_changed_source_is_compiled_anew(
    tmp_path: Path, small_sources: Path, compiler_runs: list[Path]
) -> None:
    load(tmp_path)
    (small_sources / "more.h").write_text("#pragma once\n")
    load(tmp_path)
    assert len(set(compiler_runs)) == 2


def test_a_full_disk_is_a_reason_and_leaves_nothing(tmp_path: Path, small_sources: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        disk.fill()
        reason = load(disk.path / "cache")
        assert isinstance(reason, str)
        assert "No space left" in reason
        disk.free()
        assert isinstance(load(disk.path / "cache"), ctypes.CDLL)


def test_a_compile_error_is_a_reason_and_leaves_nothing(
    tmp_path: Path, small_sources: Path, compiler_runs: list[Path]
) -> None:
    (small_sources / "decoder.cpp").write_text("this is no C++\n")
    reason = load(tmp_path / "cache")
    assert isinstance(reason, str)
    assert "did not compile" in reason
    assert "this" in reason
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["build.lock"]


def test_a_missing_compiler_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert load(tmp_path) == "no C++ compiler found (g++ or clang++)"


def test_a_cache_that_cannot_be_written_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    reason = load(tmp_path / "file" / "cache")
    assert isinstance(reason, str)
    assert "could not be built" in reason


def test_the_default_cache_is_in_the_home_folder(
    tmp_path: Path, small_sources: Path, compiler_runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    load()
    assert [path.parent for path in compiler_runs] == [tmp_path / ".cache" / "llmserve" / "native"]
