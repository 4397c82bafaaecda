"""A fork is what `python -m` would be."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from forked import ForkedProcess, popen
from programs import environment

from llmserve.engines.heavy import import_engines

pytestmark = pytest.mark.slow

SHOW = """
import atexit, os, sys
atexit.register(print, "and leaves")
files = sorted(os.listdir("/proc/self/fd"))
print(sys.argv[1:], __name__, os.getcwd(), os.environ.get("LLMSERVE_X"), files)
print("to stderr", file=sys.stderr)
"""


def started(folder: Path, code: str, *arguments: str, **settings: object) -> ForkedProcess:
    (folder / "a_program.py").write_text(code)
    with (folder / "log").open("wb") as log:
        process = popen(
            [sys.executable, "-m", "a_program", *arguments],
            cwd=folder,
            env=environment(**settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    assert isinstance(process, ForkedProcess)
    return process


def lines(folder: Path) -> Sequence[str]:
    return (folder / "log").read_text().splitlines()


def test_it_has_its_arguments_environment_and_folder_and_no_other_files(tmp_path: Path) -> None:
    assert started(tmp_path, SHOW, "a", "--b", x=1).wait(60) == 0
    seen = f"['a', '--b'] __main__ {tmp_path} 1 ['0', '1', '2', '3']"  # 3 is the folder it lists
    assert sorted(lines(tmp_path)) == sorted([seen, "to stderr", "and leaves"])


def test_it_is_one_whatever_this_process_has_imported(tmp_path: Path) -> None:
    import_engines(lambda progress: None)
    assert started(tmp_path, "").wait(60) == 0


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -2, "KeyboardInterrupt"),
        ("import threading as t; t.Timer(0.1, print, ['later']).start()", 0, "later"),
    ],
)
def test_it_ends_as_the_program_does(tmp_path: Path, code: str, status: int, told: str) -> None:
    assert started(tmp_path, code).wait(60) == status
    assert "".join(lines(tmp_path)[-1:]) == told


def test_it_can_be_waited_for_and_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "import time; time.sleep(100)")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.terminate()  # nobody has that process id any more, or somebody else


def test_where_imports_might_see_something_else_it_is_no_fork(tmp_path: Path) -> None:
    env = environment() | {"PYTHONPATH": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = popen(
            [sys.executable, "-m", "this"], cwd=tmp_path, env=env, stdout=log, stderr=log
        )
    assert isinstance(process, subprocess.Popen)
    assert process.wait(60) == 0
