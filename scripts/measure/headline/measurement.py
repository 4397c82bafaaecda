"""A whole run: the client alone, then llmserve, then Flask, each under the same loads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from measure.headline.arrivals import poisson_arrivals
from measure.headline.client import offer
from measure.headline.outcome import Summary, summarize
from measure.headline.plan import DEMO, SIMULATED, Load, Plan
from measure.headline.run import FLASK, LLMSERVE, Measured, Run
from measure.headline.server import (
    POLL_SECONDS,
    SCRIPTS,
    Server,
    StartFailed,
    environment,
    running_flask,
    running_ideal,
    running_llmserve,
)

DEMO_FOLDER: Final = SCRIPTS.parent / "models" / "demo"
LIBRARIES: Final = ("torch", "transformers", "fastapi", "uvicorn", "flask", "gunicorn")
COUNTING_SECONDS: Final = 5.0
"""An answer may be out a moment before it is counted."""

Say = Callable[[str], None]
Start = Callable[[Path, Plan, Mapping[str, Path]], AbstractContextManager[Server]]


class RoadBypassed(RuntimeError):
    """llmserve's own counters do not know the requests that the client saw answered."""


def measure(plan: Plan, folder: Path, say: Say) -> Run:
    """Measure everything in a scratch folder; minutes.

    Raises:
        StartFailed: a server did not come up.
        RoadBypassed: answers did not come through llmserve's engine.
    """
    say("writing the simulated model")
    models = {SIMULATED: folder / SIMULATED, DEMO: DEMO_FOLDER}
    overhead = _make_simulated(models[SIMULATED], plan.forward_seconds, folder)
    calibration = _calibrate(plan, folder, say)
    measured = [
        # The overload comes last: Gunicorn's queue is full of requests nobody waits for then.
        *_under_loads(LLMSERVE, running_llmserve, plan, folder, models, say),
        *_under_loads(FLASK, running_flask, plan, folder, models, say),
    ]
    return Run(plan, tuple(measured), calibration, overhead, _machine())


def _make_simulated(model: Path, forward_seconds: float, folder: Path) -> dict[str, float]:
    # In a process of its own: the client stays free of torch, and its threads.
    ran = subprocess.run(
        [sys.executable, "-m", "measure.headline.simulated", str(model), str(forward_seconds)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise StartFailed(f"the simulated model cannot be made:\n{ran.stderr[-3000:]}")
    overhead: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return overhead


def _calibrate(plan: Plan, folder: Path, say: Say) -> Summary:
    load, seconds = plan.simulated, plan.calibration_seconds
    say(f"the client alone: {load.rate:g} requests/s for {seconds:g} s")
    with running_ideal(folder, plan.forward_seconds) as server:
        arrivals = poisson_arrivals(load.rate, seconds, plan.seed)
        outcomes = offer(server.port, load.body, 1, arrivals, plan.timeout_seconds)
    return summarize(outcomes, seconds)


def _under_loads(
    name: str, start: Start, plan: Plan, folder: Path, models: Mapping[str, Path], say: Say
) -> list[Measured]:
    say(f"starting {name}")
    with start(folder, plan, models) as server:
        loads = (plan.demo, plan.simulated)
        for load in loads:
            _warm(server, plan, load)
        counted = _generated_tokens(server) if name == LLMSERVE else 0.0
        measured = [_under_load(name, server, plan, load, say) for load in loads]
        if name == LLMSERVE:
            _check_road(server, measured, counted)
    return measured


def _warm(server: Server, plan: Plan, load: Load) -> None:
    """Two requests at once for every synchronous worker: each has generated before it counts."""
    at_once = [0.0] * 2 * plan.flask_workers
    offer(server.port, load.body, load.max_tokens, at_once, plan.timeout_seconds)


def _under_load(name: str, server: Server, plan: Plan, load: Load, say: Say) -> Measured:
    say(f"{name}: {load.model} at {load.rate:g} requests/s for {load.seconds:g} s")
    arrivals = poisson_arrivals(load.rate, load.seconds, plan.seed)
    before = _cpu(server)
    outcomes = offer(server.port, load.body, load.max_tokens, arrivals, plan.timeout_seconds)
    wall, busy, of_server, of_client = (b - a for a, b in zip(before, _cpu(server), strict=True))
    return Measured(
        server=name,
        load=load,
        outcomes=tuple(outcomes),
        summary=summarize(outcomes, load.seconds),
        server_cpu_seconds=of_server,
        client_cpu_seconds=of_client,
        others_cpu_share=max(0.0, busy - of_server - of_client) / (wall * _num_cores()),
        memory_bytes=server.memory_bytes(),
    )


def _cpu(server: Server) -> tuple[float, float, float, float]:
    """Seconds so far: on the clock, of all processes, of the server's and of the client."""
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system
    return time.monotonic(), busy, server.cpu_seconds(), time.process_time()


def _num_cores() -> int:
    return psutil.cpu_count() or 1


def _check_road(server: Server, measured: Sequence[Measured], counted_before: float) -> None:
    """Every answered token must have been counted where llmserve's engine makes it."""
    expected = sum(m.summary.num_answered * m.load.max_tokens for m in measured)
    deadline = time.monotonic() + COUNTING_SECONDS
    while (counted := _generated_tokens(server) - counted_before) < expected:
        if time.monotonic() > deadline:
            raise RoadBypassed(
                f"the client got {expected} tokens, llmserve's engine counts {counted:g}; "
                "the figures are not llmserve's"
            )
        time.sleep(POLL_SECONDS)


def _generated_tokens(server: Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    series = "llmserve_generation_tokens_total{"
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def _machine() -> dict[str, Any]:
    return {
        "cores": _num_cores(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in LIBRARIES},
    }
