"""A process's name outlives no process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from llmserve.observability import process_identity
from llmserve.observability.process_identity import has_start_time, identity, is_alive

SLEEPER = "import sys; print(flush=True); sys.stdin.read()"


def test_a_pid_that_came_again_is_another_process() -> None:
    pid, _, birth = identity().partition(".")
    assert is_alive(f"{pid}.{birth}")
    if process_identity.HAS_PROC:
        assert not is_alive(f"{pid}.{int(birth) - 1}")
    assert is_alive(pid), "without a birth any process of that PID will do"
    assert has_start_time(identity())
    assert not has_start_time(pid)


def test_a_name_that_is_none_is_not_judged() -> None:
    for name in ("", "worker", "livesum"):
        assert is_alive(name)


def test_a_process_is_dead_before_its_parent_looks() -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    with child.stdout, child.stdin:
        child.stdout.readline()
        assert is_alive(str(child.pid))
        child.kill()
        deadline = time.monotonic() + 20
        while is_alive(str(child.pid)):  # a zombie: nobody has waited for it yet
            assert time.monotonic() < deadline
            time.sleep(0.001)
        child.wait(20)
    assert not is_alive(str(child.pid))


def test_without_proc_a_pid_is_asked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_identity, "HAS_PROC", False)
    assert is_alive(f"{os.getpid()}.7")
    assert is_alive("1")
    assert not is_alive("4194305.7")


def test_a_forked_child_has_a_name_of_its_own() -> None:
    mine = identity()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, identity().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        theirs = stream.read()
    os.waitpid(pid, 0)
    assert theirs.startswith(f"{pid}.")
    assert theirs != mine == identity()
