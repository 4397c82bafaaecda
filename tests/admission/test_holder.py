"""Who is alive."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from llmserve.admission.holder import Holder


def test_a_process_that_was_killed_is_dead_before_and_after_its_burial() -> None:
    script = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        me = Holder.here()
        proc = Path(f"/proc/{process.pid}")
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        holder = Holder(process.pid, int(fields[22 - 3]), 1)
        assert holder.is_alive
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert proc.exists(), "it is dead and not yet buried"
        assert not holder.is_alive
        process.wait()
        assert not holder.is_alive
        assert me.is_alive


def test_a_process_with_a_dead_ones_id_is_another() -> None:
    me = Holder.here()
    assert me.started > 0
    assert not dataclasses.replace(me, started=me.started + 1).is_alive


def test_without_start_times_the_id_must_do() -> None:
    me = dataclasses.replace(Holder.here(), started=0)
    assert me.is_alive
    assert not dataclasses.replace(me, pid=2**22 + 1).is_alive
    assert not dataclasses.replace(me, pid=2**63).is_alive


def test_two_holders_in_one_process_differ() -> None:
    assert Holder.here() != Holder.here()
