"""Limits under a manual clock, and over several real processes under a frozen one."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from manual_clock import ManualClock

from llmserve.admission import ledger as ledger_module
from llmserve.admission.limits import APART_SECONDS, Admission, Limiter, Quota, Remainder
from llmserve.clock import AwakeClock
from llmserve.domain import Caller, CallerLimits
from llmserve.errors import InvalidRequest, RateLimited

ROOT = Path(ledger_module.__file__).parents[2]


def team(
    requests: int | None = None, tokens: int | None = None, concurrency: int | None = None
) -> Caller:
    return Caller("team-a", limits=CallerLimits(requests, tokens, concurrency))


@pytest.fixture
def machine() -> ManualClock:
    return ManualClock()


@pytest.fixture
def clock(machine: ManualClock) -> AwakeClock:
    return AwakeClock(machine)


@pytest.fixture(params=["alone", "shared"])
def limiter(request: pytest.FixtureRequest, tmp_path: Path, clock: AwakeClock) -> Limiter:
    return Limiter(tmp_path if request.param == "shared" else None, clock)


def enter(limiter: Limiter, caller: Caller, requests: int = 1, tokens: int = 1) -> Admission:
    return limiter.admit(caller, requests=requests, prompt_tokens=tokens)


def test_over_requests_per_minute_says_so_and_when(limiter: Limiter, machine: ManualClock) -> None:
    caller = team(requests=6)
    for _ in range(6):
        enter(limiter, caller).close(100)
    machine.now += 4
    with pytest.raises(RateLimited, match="key team-a is over its limit of 6 requests per minute"
                       ) as refused:  # fmt: skip
        enter(limiter, caller)
    assert refused.value.retry_after_seconds == pytest.approx(6)
    assert (refused.value.status, refused.value.param) == (429, None)
    machine.now += refused.value.retry_after_seconds or 0
    enter(limiter, caller)
    with pytest.raises(RateLimited):
        enter(limiter, caller)


def test_over_tokens_per_minute_waits_for_the_prompt(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(tokens=600)
    enter(limiter, caller, tokens=600)
    with pytest.raises(RateLimited, match="600 tokens per minute") as refused:
        enter(limiter, caller, tokens=100)
    assert refused.value.retry_after_seconds == pytest.approx(10)
    machine.now += 10
    enter(limiter, caller, tokens=100)


def test_an_answer_may_put_the_caller_into_debt(limiter: Limiter, machine: ManualClock) -> None:
    caller = team(tokens=60)
    admission = enter(limiter, caller, tokens=10)
    machine.now += 5
    admission.close(completion_tokens=155)
    with pytest.raises(RateLimited) as refused:
        enter(limiter, caller, tokens=1)
    assert refused.value.retry_after_seconds == pytest.approx(155 - 55 + 1)


def test_closing_twice_charges_and_frees_once(limiter: Limiter) -> None:
    caller = team(tokens=100, concurrency=2)
    first, _second = enter(limiter, caller), enter(limiter, caller)
    for _ in range(3):
        first.close(10)
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.tokens == Remainder(100, 88, pytest.approx(7.2))
    enter(limiter, caller)
    with pytest.raises(RateLimited):
        enter(limiter, caller)


def test_over_concurrency_says_so_and_the_end_of_one_lets_the_next_in(limiter: Limiter) -> None:
    caller = team(concurrency=2)
    admission = enter(limiter, caller, requests=2)
    with pytest.raises(RateLimited, match="its limit of 2 open requests") as refused:
        enter(limiter, caller)
    assert refused.value.retry_after_seconds
    admission.close(5)
    enter(limiter, caller)
    enter(limiter, caller)


def test_a_refused_request_costs_nothing(limiter: Limiter) -> None:
    caller = team(requests=10, tokens=100, concurrency=2)
    enter(limiter, caller, tokens=50)
    before = limiter.quota(caller)
    for requests, tokens in ((2, 10), (1, 60)):
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests, tokens)
    assert limiter.quota(caller) == before
    enter(limiter, caller, tokens=50)


def test_of_several_limits_the_longest_wait_is_told(limiter: Limiter) -> None:
    caller = team(requests=60, tokens=60, concurrency=1)
    enter(limiter, caller, tokens=60)
    with pytest.raises(RateLimited, match="tokens per minute"):
        enter(limiter, caller, tokens=30)


@pytest.mark.parametrize(
    ("caller", "requests", "tokens", "told"),
    [
        (team(requests=3), 4, 1, "may make 3 per minute"),
        (team(concurrency=3), 4, 1, "may make 3 at a time"),
        (team(tokens=1000), 1, 1001, "prompt has 1,001 tokens and key team-a may use 1,000"),
    ],
)
def test_what_never_fits_is_no_matter_of_waiting(
    limiter: Limiter, caller: Caller, requests: int, tokens: int, told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told):
        enter(limiter, caller, requests, tokens)


def test_prompts_whose_tokens_nobody_knows_yet_are_charged_later(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=6, tokens=60)
    admission = limiter.admit(caller, requests=2)
    admission.charge(50)
    assert limiter.quota(caller) == Quota(Remainder(6, 4, 20.0), Remainder(60, 10, 50.0))
    with pytest.raises(RateLimited, match="tokens per minute; try again in 1 s"):
        admission.charge(11)
    with pytest.raises(InvalidRequest, match="prompt has 61 tokens"):
        admission.charge(61)
    with pytest.raises(RateLimited, match="tokens per minute; try again in 1 s"):
        limiter.admit(caller, requests=1, prompt_tokens=11)
    admission.close(10)
    with pytest.raises(RateLimited, match="tokens per minute; try again in 2 s"):
        limiter.admit(caller, requests=2)
    machine.now += 2
    limiter.admit(caller, requests=2).close()


def test_a_refund_gives_the_requests_back_and_no_more(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=6, concurrency=1)
    admission = limiter.admit(caller, requests=1)
    admission.refund()
    with pytest.raises(RateLimited, match="open requests"):
        limiter.admit(caller, requests=1)
    admission.close()
    assert limiter.quota(caller) == Quota(Remainder(6, 6, 0.0), None)
    admission = limiter.admit(caller, requests=1)
    machine.now += 60
    admission.refund()
    admission.refund()
    admission.close()
    admission.refund()
    assert limiter.quota(caller) == Quota(Remainder(6, 6, 0.0), None)
    Limiter(None).admit(team(), requests=1).refund()


def test_a_clock_that_goes_back_gives_nothing_and_blocks_nobody(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=60)
    enter(limiter, caller, requests=60)
    machine.now -= 86_400
    with pytest.raises(RateLimited) as refused:
        enter(limiter, caller)
    assert refused.value.retry_after_seconds == pytest.approx(1)
    machine.now += 1
    enter(limiter, caller)


def test_a_pause_fills_no_bucket(limiter: Limiter, clock: AwakeClock, machine: ManualClock) -> None:
    caller = team(requests=60)
    with clock.ticking():
        enter(limiter, caller, requests=60)
        machine.now += 3600
        with pytest.raises(RateLimited):  # before the tick that notices
            enter(limiter, caller, requests=2)
        clock.tick()
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests=2)
        for _ in range(4):
            machine.now += 0.5
            clock.tick()
        enter(limiter, caller, requests=2)


def test_time_before_a_pause_still_counts(
    limiter: Limiter, clock: AwakeClock, machine: ManualClock
) -> None:
    caller = team(requests=60)
    with clock.ticking():
        enter(limiter, caller, requests=60)
        for _ in range(60):
            machine.now += 0.5
            clock.tick()
        machine.now += 3600
        clock.tick()
        enter(limiter, caller, requests=30)
        with pytest.raises(RateLimited):
            enter(limiter, caller, requests=2)


def test_other_limits_hold_at_once(limiter: Limiter, machine: ManualClock) -> None:
    enter(limiter, team(requests=60), requests=20)
    lower = team(requests=10)
    enter(limiter, lower, requests=10)
    with pytest.raises(RateLimited, match="10 requests"):
        enter(limiter, lower)
    machine.now += 1
    enter(limiter, team(requests=600), requests=10)
    with pytest.raises(RateLimited, match="1 open"):
        enter(limiter, team(concurrency=1))
    enter(limiter, team())


def test_a_higher_limit_shortens_the_wait_of_who_is_in_debt(
    limiter: Limiter, machine: ManualClock
) -> None:
    enter(limiter, team(tokens=1000)).close(completion_tokens=100_000)
    with pytest.raises(RateLimited) as refused:
        enter(limiter, team(tokens=1000))
    assert (refused.value.retry_after_seconds or 0) > 3600
    machine.now += 6
    enter(limiter, team(tokens=1_000_000))


def test_a_limit_lowered_and_raised_while_an_answer_runs_charges_it_rightly(
    limiter: Limiter,
) -> None:
    admission = enter(limiter, team(tokens=100), tokens=10)
    enter(limiter, team(tokens=1000), tokens=10).close()
    admission.close(completion_tokens=50)
    quota = limiter.quota(team(tokens=1000))
    assert quota is not None
    assert quota.tokens is not None
    assert quota.tokens.remaining == 30


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


def test_a_caller_without_limits_leaves_no_trace(tmp_path: Path) -> None:
    limiter = Limiter(tmp_path / "limits")
    for _ in range(3):
        enter(limiter, Caller()).close(7)
    assert limiter.quota(Caller()) is None
    assert not (tmp_path / "limits").exists()


def test_the_quota_tells_what_is_left_and_when_all_is_back(
    limiter: Limiter, machine: ManualClock
) -> None:
    caller = team(requests=60, tokens=6000)
    enter(limiter, caller, requests=3, tokens=1500)
    machine.now += 1.5
    quota = limiter.quota(caller)
    assert quota is not None
    assert quota.requests == Remainder(60, 58, pytest.approx(1.5))
    assert quota.tokens == Remainder(6000, 4650, pytest.approx(13.5))
    assert limiter.quota(team(concurrency=1)) is None


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
