"""Limits that several workers share: files that fail; real processes under a frozen clock."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from admission.team import enter, team
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from manual_clock import ManualClock

from llmserve.admission import ledger as ledger_module
from llmserve.admission.limits import APART_SECONDS, Admission, Limiter, Remainder
from llmserve.clock import AwakeClock
from llmserve.domain import Caller, CallerLimits
from llmserve.errors import RateLimited

ROOT = Path(ledger_module.__file__).parents[2]


def test_a_directory_that_fails_stops_nobody_and_is_told(
    tmp_path: Path, clock: AwakeClock, machine: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_SECONDS", 0.01)
    log: list[str] = []
    sink = logger.add(lambda message: log.append(str(message)), level="ERROR")
    limiter, caller = Limiter(tmp_path, clock), team(concurrency=2)
    kept = enter(limiter, caller)
    closed_meanwhile = enter(limiter, caller)
    try:
        with locked(next(tmp_path.iterdir())):
            closed_meanwhile.close()
            closed_meanwhile = enter(limiter, caller)
            with pytest.raises(RateLimited):
                enter(limiter, caller)
            closed_meanwhile.close()
            assert len(log) == 1
        machine.now += APART_SECONDS
        other = Limiter(tmp_path, clock)
        with pytest.raises(RateLimited):
            enter(other, caller)  # this worker's row is old until it comes back
        enter(limiter, caller).close()
        enter(other, caller)
        kept.close()
        enter(other, caller)
        with pytest.raises(RateLimited):
            enter(limiter, caller)
    finally:
        logger.remove(sink)


def test_shared_limits_that_fail_for_long_are_told_once_and_once_more_when_they_work(
    tmp_path: Path, clock: AwakeClock, machine: ManualClock
) -> None:
    log: list[str] = []
    sink = logger.add(log.append, format="{level} {message}", level="INFO")
    limiter, caller = Limiter(tmp_path / "gone" / "limits", clock), team(requests=60)
    try:
        for _ in range(5):
            enter(limiter, caller).close()
            machine.now += APART_SECONDS
        (tmp_path / "gone").mkdir()
        enter(limiter, caller).close()
    finally:
        logger.remove(sink)
    assert [line.split()[0] for line in log] == ["ERROR", "INFO"]
    assert "No such file or directory" in log[0]
    assert list((tmp_path / "gone" / "limits").iterdir())


@contextmanager
def locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_two_limiters_of_one_box_count_together(tmp_path: Path, clock: AwakeClock) -> None:
    one, other = Limiter(tmp_path, clock), Limiter(tmp_path, clock)
    caller = team(requests=100, concurrency=2)
    first, _second = enter(one, caller), enter(other, caller)
    for limiter in (one, other):
        with pytest.raises(RateLimited):
            enter(limiter, caller)
    first.close()
    enter(other, caller)
    assert one.quota(caller) == other.quota(caller)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.floats(0, 2)), max_size=40))
def test_files_and_memory_decide_alike(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, float]]
) -> None:
    machine = ManualClock()
    clock = AwakeClock(machine)
    twins = (Limiter(None, clock), Limiter(tmp_path_factory.mktemp("limits"), clock))
    caller = team(requests=20, tokens=60, concurrency=4)
    inside: list[tuple[Admission, ...]] = []
    for requests, tokens, elapsed in steps:
        machine.now += elapsed
        if requests == 0 and inside:
            for admission in inside.pop(0):
                admission.close(tokens)
            continue
        results = [attempt(limiter, caller, requests or 1, tokens) for limiter in twins]
        assert [isinstance(r, Admission) for r in results] in ([True, True], [False, False])
        if isinstance(results[0], str):
            assert results[0] == results[1]
        else:
            inside.append(tuple(r for r in results if isinstance(r, Admission)))
    assert twins[0].quota(caller) == twins[1].quota(caller)


def attempt(limiter: Limiter, caller: Caller, requests: int, tokens: int) -> Admission | str:
    try:
        return enter(limiter, caller, requests, tokens)
    except RateLimited as refused:
        return f"{refused.message} {refused.retry_after_seconds}"


PREAMBLE = """
import fcntl, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from llmserve.admission.limits import Limiter
from llmserve.clock import AwakeClock
from llmserve.domain import Caller, CallerLimits
from llmserve.errors import RateLimited
limiter = Limiter(Path(sys.argv[2]), clock=AwakeClock(lambda: 1_700_000_000.0))
def enter(**limits):
    caller = Caller("team-a", limits=CallerLimits(**limits))
    return limiter.admit(caller, requests=1, prompt_tokens=3)
print("ready", flush=True)
sys.stdin.readline()
"""
TAKE_ALL = """
admitted = 0
for _ in range(150):
    try:
        enter(requests_per_minute=200, tokens_per_minute=10_000).close(5)
    except RateLimited:
        continue
    admitted += 1
print(admitted)
"""
CROWD = """
slots = [os.open(Path(sys.argv[3]) / str(n), os.O_RDWR | os.O_CREAT) for n in range(2)]
admitted = too_many = 0
for _ in range(300):
    try:
        admission = enter(concurrency=2)
    except RateLimited:
        continue
    admitted += 1
    for slot in slots:
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        break
    else:
        too_many += 1
    os.sched_yield()
    fcntl.flock(slot, fcntl.LOCK_UN)
    admission.close()
print([admitted, too_many])
"""
HOLD = """
held = [enter(concurrency=2), enter(concurrency=2)]
print("held", flush=True)
sys.stdin.readline()
"""


class Workers:
    """Processes that run a script once all of them are ready."""

    def __init__(self, stack: ExitStack, script: str, count: int, *arguments: Path) -> None:
        self.processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PREAMBLE + script, ROOT, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        for process in self.processes:
            stack.callback(process.kill)
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def go(self) -> list[str]:
        """Start them all; what each said next."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.stdout.readline() for process in self.processes if process.stdout]


def test_processes_together_never_get_more_than_the_bucket_holds(tmp_path: Path) -> None:
    with ExitStack() as stack:
        said = Workers(stack, TAKE_ALL, 4, tmp_path).go()
    assert sum(int(word) for word in said) == 200
    # Each of the two hundred paid 3 for its prompt and 5 for its answer.
    quota = Limiter(tmp_path, AwakeClock(lambda: 1_700_000_000.0)).quota(
        team(requests=200, tokens=10_000)
    )
    assert quota is not None
    assert (quota.requests, quota.tokens) == (
        Remainder(200, 0, 60.0),
        Remainder(10_000, 10_000 - 200 * 8, pytest.approx(9.6)),
    )


def test_processes_together_never_have_more_open_than_they_may(tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    with ExitStack() as stack:
        said = Workers(stack, CROWD, 4, tmp_path / "limits", tmp_path / "slots").go()
    counts = [json.loads(line) for line in said]
    assert sum(too_many for _, too_many in counts) == 0
    assert sum(admitted for admitted, _ in counts) > 0
    limiter = Limiter(tmp_path / "limits")
    enter(limiter, team(concurrency=2), requests=2)


def test_a_killed_process_holds_nothing_open(tmp_path: Path) -> None:
    limiter, caller = Limiter(tmp_path), team(concurrency=2)
    with ExitStack() as stack:
        workers = Workers(stack, HOLD, 1, tmp_path)
        assert workers.go() == ["held\n"]
        with pytest.raises(RateLimited):
            enter(limiter, caller)
        (victim,) = workers.processes
        victim.kill()
        os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
        enter(limiter, caller, requests=2)
        with pytest.raises(RateLimited):
            enter(limiter, caller)


def test_a_process_that_ends_while_it_charges_leaves_a_whole_tab(tmp_path: Path) -> None:
    charge = "enter(tokens_per_minute=10**9, concurrency=10**6).close(1)"
    script = f"for _ in range(50): {charge}\nprint('off', flush=True)\nwhile True: {charge}\n"
    caller = Caller("team-a", limits=CallerLimits(None, 10**9, 10**6))
    left = 10**9
    for _ in range(5):
        with ExitStack() as stack:
            workers = Workers(stack, script, 2, tmp_path)
            assert workers.go() == ["off\n", "off\n"]
        quota = Limiter(tmp_path, AwakeClock(lambda: 1_700_000_000.0)).quota(caller)
        assert quota is not None
        assert quota.tokens is not None
        assert quota.tokens.remaining <= left - 2 * 50 * 4, "a tab that began anew is full"
        left = quota.tokens.remaining
    enter(Limiter(tmp_path), caller, requests=10**6)
