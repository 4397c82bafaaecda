"""The run directory vanishes, fills up, or has a name that no socket's address has room for."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from bounded import run
from box import is_replaced, pids, until, wait_until
from crowd import Crowd
from programs import llmserve
from server import Server, idle_server, running_server
from small_disk import small_disk

REQUEST = {"prompt": "hi", "max_tokens": 2, "temperature": 0}
REQUESTS = 24
ADMIN = {"Authorization": "Bearer operator"}


def test_a_run_directory_that_vanishes_comes_back_and_nobody_dies_of_it(
    pair: Server, pair_folder: Path, tmp_path: Path
) -> None:
    run_dir = pair_folder / "run"
    deaths = partial(pair.metric, "llmserve_worker_restarts_total", reason="died")
    successes = partial(pair.metric, "llmserve_request_success_total")

    async def test() -> None:
        (survivor, victim), done_before = pids(pair).values(), successes()
        deaths_before = deaths()
        async with Crowd(pair.url, 4, max_tokens=40, pause_seconds=0.7) as crowd:
            await crowd.until(8)
            # In one move: what is removed file by file may come back before the last one goes.
            run_dir.rename(tmp_path / "gone")
            shutil.rmtree(tmp_path / "gone")
            assert await asyncio.to_thread(pair.metric, "llmserve_worker_up") >= 1
            # A worker that dies now is replaced: what that takes is not in the directory.
            os.kill(victim, signal.SIGKILL)
            await until(lambda: is_replaced(pair, victim))
            await crowd.until(len(crowd.outcomes) + 8)
            outcomes = await crowd.stop()
        assert pair.process.poll() is None
        assert survivor in pids(pair).values()
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
        done = await asyncio.to_thread(llmserve, "ps", "--url", pair.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(str(pid) in done.stdout for pid in pids(pair).values())
        # What the living count is there again; what the dead one had counted is lost and told.
        await until(lambda: pair.metric("llmserve_worker_up") == 2)
        assert 0 < successes() <= done_before + len(outcomes)
        assert deaths() - deaths_before == 1
        assert "had vanished and was made again" in pair.log

    run(test, seconds=200)


def test_ps_says_which_worker_cannot_be_reached(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with idle_server(tmp_path, tiny_model, workers=2, run_dir=run_dir) as server:
        wait_until(lambda: len(pids(server)) == 2, "two workers serve")
        silent = pids(server)[1]
        # A worker takes its place back within a second, but not while it is stopped.
        os.kill(silent, signal.SIGSTOP)
        try:
            (run_dir / "workers" / f"{silent}.sock").unlink()
            done = llmserve("ps", "--url", server.url)
        finally:
            os.kill(silent, signal.SIGCONT)
        assert done.returncode == 1
        assert "worker 1: the worker stopped" in done.stderr
        assert str(pids(server)[0]) in done.stdout
        wait_until(lambda: llmserve("ps", "--url", server.url).returncode == 0, "both answer")


STRANGER = """
import os, selectors, socket, sys
heard = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
waiting = selectors.DefaultSelector()
for path in sys.argv[3:]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    waiting.register(listener, selectors.EVENT_READ)
print(flush=True)
while True:
    for key, _ in waiting.select():
        connection, _ = key.fileobj.accept()
        connection.settimeout(2)
        os.write(heard, b"connected " + connection.recv(4096))
        connection.sendall(b'{"event": "done", "status": 3}\\n')
        connection.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_one_that_became_another_users_is_not_used(tiny_model: Path, tmp_path: Path) -> None:
    outside = Path(
        tempfile.mkdtemp(prefix="llmserve-test-")
    )  # pytest's folders are closed to others
    outside.chmod(0o755)
    run_dir, heard = outside / "run", outside / "heard"
    nobody = pwd.getpwnam("nobody").pw_uid
    secret = tmp_path / "a-secret"
    secret.symlink_to(tiny_model)
    with (
        contextlib.ExitStack() as stack,
        idle_server(tmp_path, f"{tiny_model},{secret}", workers=2, run_dir=run_dir) as server,
    ):
        stack.callback(shutil.rmtree, outside)
        wait_until(lambda: len(pids(server)) == 2, "two workers serve")
        before = pids(server)
        trap = outside / "trap"
        for folder in (trap, trap / "metrics", trap / "limits", trap / "workers"):
            folder.mkdir()
            os.chown(folder, nobody, nobody)
        bait = (trap / "metrics" / "gauge_livesum_4194305.1.db", heard)
        for file in bait:
            file.touch()
            os.chown(file, nobody, nobody)
        (trap / "metrics" / "counter_1.db").write_bytes(b"abc")
        run_dir.rename(outside / "run.gone")
        trap.rename(run_dir)
        sockets = [run_dir / "workers" / f"{pid}.sock" for pid in before.values()]
        stranger = subprocess.Popen(
            [sys.executable, "-c", STRANGER, heard, str(nobody), *sockets], stdout=subprocess.PIPE
        )
        stack.callback(stranger.wait)
        stack.callback(stranger.kill)
        assert stranger.stdout is not None
        stack.enter_context(stranger.stdout)
        stranger.stdout.readline()
        there = sorted(run_dir.rglob("*"))
        server.wait_for_log("belongs to another user", times=3)
        # The workers still meet in the one that they hold.
        assert pids(server) == before
        body = {"model": "a-secret"}
        answer = httpx.post(server.url + "/admin/unload", json=body, timeout=60)
        assert (answer.status_code, answer.json()["ok"]) == (200, True)
        assert server.metric("llmserve_worker_up") == 2
        # One that is started now has nobody to meet, and serves.
        os.kill(before[1], signal.SIGKILL)
        server.wait_for_log("accepts connections", times=3)
        answer = httpx.get(server.url + "/admin/status", timeout=20)
        assert answer.status_code == 200
        assert len(answer.json()["workers"]) + len(answer.json()["silent"]) == 2
        assert httpx.post(server.url + "/generate", json=REQUEST, timeout=60).status_code == 200
        assert heard.read_bytes() == b""
        assert sorted(run_dir.rglob("*")) == there
        assert server.stop() == 0
        assert sorted(run_dir.rglob("*")) == there
        assert "Traceback" not in server.log


def test_whatever_becomes_of_the_series_files_metrics_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    metrics = tmp_path / "run" / "metrics"
    with idle_server(tmp_path, tiny_model, workers=2, run_dir=metrics.parent) as server:
        wait_until(lambda: server.metric("llmserve_worker_up") == 2, "two workers serve")
        wait_until(lambda: 1 in pids(server), "both answer")
        second = pids(server)[1]
        (metrics / "counter_1-2.db").write_bytes(b"abc")
        (metrics / "history.json").write_text("[]")
        assert server.metric("llmserve_worker_up") == 2
        victim = next(metrics.glob(f"gauge_livesum_{second}.*"))
        with victim.open("r+b") as file:
            # Longer than the file, it says; as numbers the rest is less than 0.
            file.write(b"\xff\xff\xff\x7f" + b"\xbf" * 4092)
        assert server.metric("llmserve_worker_up") <= 1
        server.wait_for_log("not all series in", times=1)
        assert httpx.post(server.url + "/generate", json=REQUEST, timeout=60).status_code == 200
        metrics.rename(tmp_path / "taken")
        metrics.touch()
        assert server.metric("llmserve_worker_up") <= 1
        server.wait_for_log("metrics is not a directory", times=3)
        metrics.unlink()
        wait_until(lambda: server.metric("llmserve_worker_up") >= 1, "they are published again")
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_who_keeps_the_accounting_logs_lock_holds_up_no_stop(
    tiny_model: Path, tmp_path: Path
) -> None:
    accounting = tmp_path / "usage.jsonl"
    with running_server(tmp_path, tiny_model, accounting_log=accounting) as server:
        lock = tmp_path / "usage.jsonl.lock"
        wait_until(lock.exists, "the log is opened")
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert httpx.post(server.url + "/generate", json=REQUEST, timeout=30).status_code == 200
            server.wait_for_log("cannot write the accounting log", times=1)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 15
        assert "1 entries of the accounting log" in server.log
        assert "a thread hangs" not in server.log


def test_by_default_it_lies_in_the_state_folder_and_is_gone_afterwards(
    tiny_model: Path, tmp_path: Path
) -> None:
    with idle_server(tmp_path, tiny_model) as server:
        (run_dir,) = (tmp_path / "state" / "llmserve").iterdir()
        assert f"with the run directory {run_dir}" in server.log
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
        assert server.stop() == 0
        assert not run_dir.exists()


def test_a_path_that_is_too_long_for_a_sockets_address_is_served_from_all_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    state = tmp_path / ("a-very-long-name-" * 12)  # in letters and in bytes over every limit
    with idle_server(tmp_path, tiny_model, state=state, workers=2) as server:
        wait_until(lambda: len(pids(server)) == 2, "two workers serve")
        done = llmserve("ps", "--url", server.url)
        assert (done.returncode, done.stderr) == (0, "")
        unloaded = llmserve("unload", "tiny", "--url", server.url)
        assert unloaded.stdout.count("unload tiny in") == 2, unloaded.stderr
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_full_disk_stops_nobody_and_is_told_once(tiny_model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    limits = ("--requests-per-minute", 100_000, "--concurrency", 50)
    made = llmserve("keys", "create", "alice", "--file", keys, *limits)
    alice = {"Authorization": f"Bearer {made.stdout.split()[0]}"}
    with small_disk(tmp_path / "disk", 8 * 2**20) as disk:
        settings = {
            "workers": 2,
            "run_dir": disk.path / "run",
            "keys_file": keys,
            "admin_keys": "operator",
            "accounting_log": disk.path / "accounting.log",
        }
        with running_server(tmp_path, tiny_model, **settings) as server:
            server.wait_for_log("is ready after", times=2)
            disk.fill()
            assert statuses(server, alice) == {200}
            victim = status(server)["workers"][1]["pid"]
            os.kill(victim, signal.SIGKILL)
            server.wait_for_log("is ready after", times=3)
            assert statuses(server, alice) == {200}
            assert server.metric("llmserve_request_success_total") > 0
            disk.fill()  # the dead one's gauges were removed
            unloaded = command(server, "unload")
            assert all("not written down" in worker["warning"] for worker in unloaded)
            disk.free()
            server.wait_for_log("resolved: ", times=1)
            assert server.stop() == 0
        assert "Traceback" not in server.log
        # Once per worker, of which there were three, however many requests came.
        for trouble in ("rate limits cannot be shared", "cannot write the accounting log"):
            assert 1 <= server.log.count(trouble) <= 3
        # What could not be accounted for then is now; the killed one took its own with it.
        entries = (disk.path / "accounting.log").read_text().splitlines()
        assert REQUESTS <= len(entries) <= 2 * REQUESTS


def statuses(server: Server, headers: dict[str, str]) -> set[int]:
    """Of many requests at once."""

    def post(_: int) -> int:
        url = server.url + "/generate"
        return httpx.post(url, json=REQUEST, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(post, range(REQUESTS)))


def status(server: Server) -> dict[str, list[dict[str, object]]]:
    answer = httpx.get(server.url + "/admin/status", headers=ADMIN, timeout=20)
    return dict(answer.json())


def command(server: Server, kind: str, **body: str) -> list[dict[str, str]]:
    """What each worker reports."""
    url = f"{server.url}/admin/{kind}"
    return list(httpx.post(url, json=body, headers=ADMIN, timeout=30).json()["workers"])
