"""Workers die, hang and are replaced while clients stream."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
from bounded import run
from box import is_replaced, pids, until
from crowd import Crowd
from grpc_crowd import grpc_crowd
from hanging_model import make_hanging_model
from server import Server, idle_server, running_server

PAUSE_SECONDS = 0.7
"""Of a client between two requests: a worker that starts needs the processors, too."""


def successes(server: Server) -> float:
    return server.metric("llmserve_request_success_total")


def deaths(server: Server) -> float:
    return server.metric("llmserve_worker_restarts_total", reason="died")


def test_a_killed_worker_takes_only_its_own_streams_with_it(pair: Server) -> None:
    async def test() -> None:
        (survivor, victim), done_before = pids(pair).values(), successes(pair)
        ended_before = deaths(pair)
        async with Crowd(pair.url, 12, max_tokens=60, pause_seconds=PAUSE_SECONDS) as crowd:
            await crowd.until(32)
            counted = await asyncio.to_thread(successes, pair)
            os.kill(victim, signal.SIGKILL)
            killed_at = time.monotonic()
            assert await asyncio.to_thread(successes, pair) >= counted
            await until(lambda: is_replaced(pair, victim))
            after = len(crowd.outcomes)
            await crowd.until(after + 32)
            outcomes = await crowd.stop()
        failed = [o for o in outcomes if not o.is_done]
        assert len(failed) <= 12
        # The client saw its connection close; nobody waits for ever, nobody is lied to.
        assert all(o.error in ("RemoteProtocolError", "ReadError") for o in failed)
        assert all(o.begun_at < killed_at for o in failed)
        assert survivor in pids(pair).values()
        done = sum(o.is_done for o in outcomes)
        # What the dead worker had counted is still there. An answer is counted once its stream is
        # closed: the last one of a client may have ended in that very moment.
        assert successes(pair) - done_before >= done - 12
        assert deaths(pair) - ended_before == 1
        assert pair.metric("llmserve_num_requests_running") == 0

    run(test, seconds=200)


def test_a_hung_worker_turns_its_liveness_and_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "hanging"
        switch = make_hanging_model(folder)
        with running_server(
            tmp_path,
            folder,
            trust_remote_code=True,
            hang_timeout_seconds=3.0,
            drain_timeout_seconds=0.2,
        ) as server:
            (first,) = pids(server).values()
            switch.touch()
            request = {"prompt": "hi", "max_tokens": 4}
            answer = asyncio.create_task(
                asyncio.to_thread(httpx.post, server.url + "/generate", json=request, timeout=60)
            )
            lives = await asyncio.to_thread(server.wait_until, "/health", 503)
            assert lives.json()["status"] == "hung"
            refused = await answer
            assert refused.status_code == 500
            assert "made no token for 3 s" in refused.json()["error"]["message"]
            switch.unlink()
            await until(lambda: pids(server).get(0, first) != first)  # one that loads is not there
            again = await asyncio.to_thread(
                httpx.post, server.url + "/generate", json=request, timeout=60
            )
            assert again.status_code == 200
            assert server.metric("llmserve_worker_restarts_total", reason="hung") == 1

    run(test, seconds=200)


def test_a_worker_whose_event_loop_is_stuck_is_killed_with_its_stacks_in_the_log(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        settings = {"workers": 2, "worker_timeout_seconds": 3.0}
        with idle_server(tmp_path, tiny_model, **settings) as server:
            await until(lambda: len(pids(server)) == 2)
            first = pids(server)[0]
            os.kill(first, signal.SIGSTOP)
            await until(lambda: "has had no heartbeat" in server.log)
            await until(lambda: pids(server).get(0, first) != first)
            assert "its stacks follow" in server.log
            assert server.stop() == 0

    run(test, seconds=200)


def test_a_rolling_restart_drops_no_request(pair: Server) -> None:
    async def test() -> None:
        before, logged = set(pids(pair).values()), len(pair.log)
        fields = {"max_tokens": 30, "pause_seconds": PAUSE_SECONDS}
        async with (
            Crowd(pair.url, 4, **fields) as strangers,
            Crowd(pair.url, 4, keeps_connections=True, **fields) as regulars,
            grpc_crowd(pair.grpc_address, **fields) as callers,
        ):
            await strangers.until(8)
            await until(lambda: len(callers.ends) >= 4)
            pair.process.send_signal(signal.SIGHUP)
            await until(lambda: "rolling restart is done" in pair.log[logged:], seconds=150)
            await regulars.until(len(regulars.outcomes) + 8)
            called = len(callers.ends)
            await until(lambda: len(callers.ends) >= called + 4)
            outcomes = [*await strangers.stop(), *await regulars.stop()]
        assert [o for o in outcomes if not o.is_done] == []
        assert set(callers.ends) == {"finish"}
        assert before.isdisjoint(pids(pair).values())

    run(test, seconds=250)


def test_sigterm_under_load_cuts_no_stream_without_a_word(tiny_model: Path, tmp_path: Path) -> None:
    async def test() -> None:
        settings = {"workers": 2, "drain_timeout_seconds": 0.5, "max_running": 2}
        with running_server(tmp_path, tiny_model, is_fork=False, **settings) as server:
            await until(lambda: len(pids(server)) == 2)
            async with Crowd(server.url, 16, max_tokens=300) as crowd:
                await crowd.until(4)
                server.process.send_signal(signal.SIGTERM)
                outcomes = await crowd.stop()
            assert await asyncio.to_thread(server.stop) == 0
            streams = [o for o in outcomes if o.status == 200]
            assert [o for o in streams if not o.is_told] == []
            refused = {o.status for o in outcomes if o.status not in (200, None)}
            assert refused <= {503}
            # Without any answer only those whose connection came when nobody listened.
            gone = {o.error for o in outcomes if o.status is None}
            assert gone <= {"ConnectError", "ReadError", "RemoteProtocolError"}

    run(test, seconds=200)


def test_long_lived_streams_are_spread_over_all_workers(pair: Server) -> None:
    async def test() -> None:
        async with Crowd(pair.url, 12, max_tokens=400) as crowd:
            await until(lambda: sum(running(pair)) == 12)
            spread = running(pair)
            await crowd.stop()
        assert min(spread) >= 5, spread

    run(test, seconds=200)


def running(server: Server) -> list[int]:
    status = httpx.get(server.url + "/admin/status", timeout=20).json()
    return [sum(m["running"] for m in w["models"]) for w in status["workers"]]


def test_a_worker_that_does_not_answer_is_reported_and_not_waited_for(
    tiny_model: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        with idle_server(tmp_path, tiny_model, workers=2) as server:
            await until(lambda: len(pids(server)) == 2)
            stopped = pids(server)[1]
            os.kill(stopped, signal.SIGSTOP)
            try:
                # The connection may wait in the stopped worker: ask until the other one answers.
                answers = await asyncio.gather(
                    *(asyncio.to_thread(unload, server) for _ in range(4)), return_exceptions=True
                )
                reports = [a for a in answers if isinstance(a, dict)]
                assert reports
                told = {w["worker"]: w["ok"] for w in reports[0]["workers"]}
                assert told[0] is True
                assert told.get(1) is not True
            finally:
                os.kill(stopped, signal.SIGCONT)

    run(test, seconds=100)


def unload(server: Server) -> object:
    return httpx.post(server.url + "/admin/unload", json={}, timeout=15).json()


def test_workers_without_a_supervisor_finish_and_leave(tiny_model: Path, tmp_path: Path) -> None:
    async def test() -> None:
        with running_server(tmp_path, tiny_model, devices="cpu,cpu") as server:
            (worker,) = pids(server).values()
            async with Crowd(server.url, 2, max_tokens=300) as crowd:
                await crowd.until_streaming(2)
                server.process.kill()
                outcomes = await crowd.stop()
            # What ran was finished: nobody's stream was cut.
            assert [o for o in outcomes if o.tokens and not o.is_done] == []
            await until(lambda: not Path("/proc", str(worker)).exists())
            assert "the supervisor has died" in server.log

    run(test, seconds=100)
