"""Series of all workers: their sums, through deaths, crashes and crowds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observability.series import COUNTER, NOBODY, SECONDS, totals, write
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from llmserve.observability import history, worker_files
from llmserve.observability.worker_files import WorkerFiles

CROWD = """
import sys
from pathlib import Path
from llmserve.observability.worker_files import WorkerFiles
files, last = WorkerFiles(Path(sys.argv[1]), max_dead_files=2), float(sys.argv[2])
seen = [0.0]
print(flush=True)
while seen[-1] < last:
    samples = [s for family in files.collect() for s in family.samples]
    seen.append(sum(s.value for s in samples))
    assert seen[-2] <= seen[-1] <= last, seen[-2:]
"""
GENERATIONS = """
import os, sys
from pathlib import Path
from llmserve.observability.metrics import Metrics
directory = Path(sys.argv[1])
metrics = Metrics(directory, compat="vllm")
assert Metrics(directory)._registry is not metrics._registry
metrics.worker_restarts.labels("died").inc()
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        metrics.running.labels("m").set(1)
        metrics.generation_tokens.labels("m").inc(number)
        metrics.queue_time.labels("m").observe(0.4)
        metrics.key_queue.labels("k").observe(0.1)
        os._exit(0)
    os.waitpid(pid, 0)
    metrics.render()
metrics.running.labels("m").set(2)
sys.stdout.write(metrics.render().decode())
"""


def test_a_directory_without_files_has_no_series(tmp_path: Path) -> None:
    assert totals(WorkerFiles(tmp_path)) == {}


def test_a_dead_workers_gauges_go_and_its_counts_stay(tmp_path: Path) -> None:
    gauge = mmap_key("g", "g", [], [], "Text.")
    for worker in ("1.1", "2.1"):
        write(tmp_path, f"gauge_livesum_{worker}.db", {gauge: 1.0})
        write(tmp_path, f"counter_{worker}.db", {COUNTER: 1.0})
    files = WorkerFiles(tmp_path, is_alive=lambda name: name == "2.1")
    assert totals(files) == {"g": 1.0, "c_total": 2.0}


def test_a_directory_that_vanished_is_an_answer_without_series(tmp_path: Path) -> None:
    files = WorkerFiles(tmp_path / "metrics", max_dead_files=0)
    assert totals(files) == {}
    own = {"counter_1.1.db": {COUNTER: 3.0}}
    assert totals(WorkerFiles(tmp_path / "metrics", unpublished=lambda: own)) == {"c_total": 3.0}


def test_numbers_without_a_sum_are_an_answer(tmp_path: Path) -> None:
    for number, value in enumerate((math.inf, -math.inf, 1e308)):
        write(tmp_path, f"counter_{number}.1.db", {COUNTER: value, SECONDS: 1e308})
    for dead in (100, 0):
        files = WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=dead)
        assert all(math.isnan(value) for value in totals(files).values())


def test_what_this_process_could_not_publish_counts_instead_of_its_old_file(tmp_path: Path) -> None:
    gauge = mmap_key("g", "g", [], [], "Text.")
    write(tmp_path, "counter_1.1.db", {COUNTER: 3.0})
    write(tmp_path, "counter_2.1.db", {COUNTER: 4.0})
    write(tmp_path, "gauge_livemax_2.1.db", {gauge: 4.0})
    own = {"counter_1.1.db": {COUNTER: 30.0}, "gauge_livemax_1.1.db": {gauge: 3.0}}
    files = WorkerFiles(tmp_path, unpublished=lambda: own, is_alive=lambda _: True)
    assert totals(files) == {"c_total": 34.0, "g": 4.0}


def test_files_without_a_start_time_are_never_merged(tmp_path: Path) -> None:
    write(tmp_path, "counter_4194305.db", {COUNTER: 1.0})
    files = WorkerFiles(tmp_path, max_dead_files=0)
    assert totals(files) == {"c_total": 1.0}
    assert (tmp_path / "counter_4194305.db").exists()


def test_nobody_reads_while_history_is_made_and_readers_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool, bool]] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            free = may_lock(tmp_path, fcntl.LOCK_SH), may_lock(tmp_path, fcntl.LOCK_EX)
            seen.append((function.__name__, *free))
            return function(*arguments)

        return call

    monkeypatch.setattr(worker_files, "absorb", watched(worker_files.absorb))
    monkeypatch.setattr(worker_files, "gather", watched(worker_files.gather))
    write(tmp_path, f"counter_{NOBODY}.db", {COUNTER: 1.0})
    assert totals(WorkerFiles(tmp_path, max_dead_files=0)) == {"c_total": 1.0}
    assert seen == [("absorb", False, False), ("gather", True, False)]
    assert may_lock(tmp_path, fcntl.LOCK_EX)


def may_lock(directory: Path, how: int) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


class Crash(BaseException):
    """The kill that a worker can get at any instruction."""


def test_a_crash_at_any_point_loses_and_doubles_nothing(tmp_path: Path) -> None:
    for crash_after in range(40):
        write(tmp_path, f"counter_1.{crash_after}.db", {COUNTER: 1.0})
        write(tmp_path, f"summary_1.{crash_after}.db", {SECONDS: 0.1})
        steps = iter(range(crash_after % 8))

        def step(real, *arguments, steps=steps, **options):  # type: ignore[no-untyped-def]
            if next(steps, None) is None:
                raise Crash
            return real(*arguments, **options)

        real = {name: getattr(Path, name) for name in ("unlink", "replace", "write_text")}
        broken = {
            name: (lambda f: lambda *a, **o: step(f, *a, **o))(function)
            for name, function in real.items()
        }
        with patch.multiple(Path, **broken), contextlib.suppress(Crash):
            WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=2).collect()
        found = totals(WorkerFiles(tmp_path, max_dead_files=1000))
        assert found["c_total"] == crash_after + 1
        assert found["s_sum"] == pytest.approx(0.1 * (crash_after + 1))
    for worker in ("2.1", "2.2"):
        write(tmp_path, f"counter_{worker}.db", {COUNTER: 1.0})
        totals(WorkerFiles(tmp_path, is_alive=lambda _: False, max_dead_files=0))
    assert list(tmp_path.glob("*.db")) == []
    absorbed = json.loads((tmp_path / history.NAME).read_text())["absorbed"]
    assert absorbed == ["counter_2.2.db"], "names of files that are gone are forgotten"


seconds = st.floats(0, 1e6, allow_nan=False).map(lambda value: value / 3)

moves = st.one_of(
    st.tuples(st.just("observe"), st.integers(0, 3), seconds),
    st.tuples(st.just("die"), st.integers(0, 3), st.none()),
    st.tuples(st.just("scrape"), st.integers(0, 3), st.none()),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(moves, max_size=40))
def test_no_total_ever_falls_and_all_are_exact(script: list[tuple[str, int, float | None]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        lives = dict.fromkeys(range(4), 0)
        open_files: dict[int, MmapedDict] = {}
        values: dict[tuple[int, int], float] = {}
        counted, last = 0, {"c_total": 0.0, "s_sum": 0.0}
        for move, worker, amount in [*script, ("scrape", 0, None)]:
            if move == "observe":
                assert amount is not None
                file = open_files.get(worker) or MmapedDict(
                    str(directory / f"summary_{worker}.{lives[worker]}.db")
                )
                open_files[worker] = file
                life = (worker, lives[worker])
                values[life] = values.get(life, 0.0) + amount
                counted += 1
                file.write_value(SECONDS, values[life], 0.0)
                file.write_value(COUNTER, file.read_value(COUNTER)[0] + 1, 0.0)
            elif move == "die":
                if worker in open_files:
                    open_files.pop(worker).close()
                lives[worker] += 1
            else:
                alive = {f"{w}.{life}" for w, life in lives.items()}
                found = totals(
                    WorkerFiles(directory, is_alive=alive.__contains__, max_dead_files=worker)
                )
                exact = sum(map(Fraction, values.values()), Fraction(0))
                assert found.get("c_total", 0.0) == counted
                assert found.get("s_sum", 0.0) == pytest.approx(float(exact), rel=1e-14)
                assert all(found.get(key, 0.0) >= value for key, value in last.items())
                last = {**last, **found}
        for file in open_files.values():
            file.close()


labels = st.sampled_from(["a", "b"])

observed = st.lists(st.tuples(st.integers(1, 3), labels, st.sampled_from(["1.0", "5.0", "+Inf"])))


@settings(deadline=None, max_examples=40)
@given(observed)
def test_what_is_read_is_what_prometheus_clients_own_reader_reads(
    script: list[tuple[int, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        counts: dict[tuple[int, str, str], float] = {}
        for worker, model, le in script:
            counts[worker, model, le] = counts.get((worker, model, le), 0) + 1
        for worker in {worker for worker, _, _ in counts}:
            found = {
                mmap_key("h", "h_bucket", ["model", "le"], [model, le], "Text."): value
                for (w, model, le), value in counts.items()
                if w == worker
            }
            for model in "ab":
                found[mmap_key("h", "h_sum", ["model"], [model], "Text.")] = 0.5 * worker
            write(directory, f"histogram_{worker}.db", found)
            write(directory, f"counter_{worker}.db", {COUNTER: float(worker)})
            write(directory, f"gauge_livemax_{worker}.db",
                  {mmap_key("g", "g", [], [], "Text."): float(worker)})  # fmt: skip

        def told(families) -> dict[object, float]:  # type: ignore[no-untyped-def]
            return {
                (f.name, f.type, f.documentation, s.name, *sorted(s.labels.items())): s.value
                for f in families
                for s in f.samples
            }

        theirs = told(MultiProcessCollector(None, path=name).collect())
        assert told(WorkerFiles(directory, is_alive=lambda _: True).collect()) == theirs


def test_scrapes_of_several_processes_see_every_count_once_while_history_is_made(
    tmp_path: Path,
) -> None:
    last = 120
    command = [sys.executable, "-c", CROWD, str(tmp_path), str(last)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    for reader in readers:
        assert reader.stdout is not None
        with reader.stdout:
            reader.stdout.readline()
    for number in range(last):
        write(tmp_path, f"counter_{NOBODY}{number}.db", {COUNTER: 1.0})
    try:
        assert [reader.wait(60) for reader in readers] == [0, 0, 0]
    finally:
        for reader in readers:
            reader.kill()
    assert totals(WorkerFiles(tmp_path, max_dead_files=2)) == {"c_total": last}
    assert len(list(tmp_path.glob("*.db"))) <= 2


def test_many_generations_of_workers_leave_few_files_and_all_their_counts(tmp_path: Path) -> None:
    generations = 70
    text = subprocess.run(
        [sys.executable, "-c", GENERATIONS, str(tmp_path), str(generations)],
        capture_output=True, text=True, timeout=100, check=True,
    ).stdout  # fmt: skip
    lines = text.splitlines()
    for expected in (
        'llmserve_num_requests_running{model="m"} 2.0',
        f'llmserve_generation_tokens_total{{model="m"}} {sum(range(generations))}.0',
        f'llmserve_request_queue_time_seconds_bucket{{le="0.5",model="m"}} {generations}.0',
        f'llmserve_request_queue_time_seconds_count{{model="m"}} {generations}.0',
        f'llmserve_key_queue_seconds_count{{key="k"}} {generations}.0',
        'llmserve_worker_restarts_total{reason="died"} 1.0',
        'vllm:num_requests_running{engine="0",model_name="m"} 2.0',
    ):
        assert expected in lines
    assert len(list(tmp_path.glob("*.db"))) < 75
