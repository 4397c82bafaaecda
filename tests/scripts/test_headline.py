"""The headline benchmark: lost requests count, the client is open-loop, and a smoke run works."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from measure.headline.arrivals import poisson_arrivals
from measure.headline.client import offer
from measure.headline.outcome import Outcome, Summary, percentile, summarize
from measure.headline.verdict import judge
from server import free_port

SCRIPTS = Path(__file__).parents[2] / "scripts"
PATIENCE = 20.0
SMOKE_SECONDS = 240.0
RIGHT = b'{"result": "a", "usage": {"completion_tokens": 1}}'


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that gives each connection the next answer, the last one for ever; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    is_over = threading.Event()

    def serve() -> None:
        number = 0
        while True:
            connection, _ = listener.accept()
            with connection:
                if is_over.is_set():
                    return
                connection.settimeout(PATIENCE)
                received = b""
                while b"\r\n\r\n{}" not in received and (more := connection.recv(4096)):
                    received += more
                connection.sendall(answers[min(number, len(answers) - 1)])
                number += 1

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        is_over.set()
        with socket.create_connection(listener.getsockname(), timeout=PATIENCE):
            thread.join(PATIENCE)
        listener.close()


def errors(port: int, num_requests: int, timeout: float = PATIENCE) -> list[str | None]:
    return [o.error for o in offer(port, b"{}", 1, [0.0] * num_requests, timeout)]


def test_a_server_that_is_not_there_is_an_error_by_its_kind() -> None:
    assert errors(free_port(), 2) == ["refused", "refused"]


def test_every_answer_but_the_right_one_is_an_error_by_its_kind() -> None:
    wrong = {
        b"": "cut off",
        http(RIGHT)[:-1]: "cut off",
        http(b"busy", "503 Service Unavailable"): "status 503",
        http(b"no JSON"): "wrong answer",
        http(b"[]"): "wrong answer",
        http(RIGHT.replace(b"1", b"2")): "wrong answer",
        http(RIGHT.replace(b'"a"', b'""')): "wrong answer",
        b"HTTP/1.1 200 OK\r\n\r\n": "no content-length",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n": "no content-length",
        b"SSH-2.0\r\n\r\n": "not HTTP",
    }
    for answer, kind in wrong.items():
        with answering(answer) as port:
            assert errors(port, 1) == [kind], answer


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcomes = offer(silent.getsockname()[1], b"{}", 1, [0.0, 0.1], 0.3)
    assert [o.error for o in outcomes] == ["timeout", "timeout"]
    assert [o.scheduled for o in outcomes] == [0.0, 0.1]


def test_requests_are_sent_when_due_though_none_was_answered() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        offer(silent.getsockname()[1], b"{}", 1, [0.0] * 20, 0.2)
        silent.settimeout(PATIENCE)
        for _ in range(20):
            silent.accept()[0].close()


def test_one_bad_answer_does_not_spoil_the_next() -> None:
    with answering(b"", http(RIGHT)) as port:
        assert sorted(map(str, errors(port, 3))) == ["None", "None", "cut off"]


def test_arrivals_depend_on_the_seed_alone_and_stay_within_the_load() -> None:
    assert poisson_arrivals(200, 20, 1) == poisson_arrivals(200, 20, 1)
    assert poisson_arrivals(200, 20, 1) != poisson_arrivals(200, 20, 2)
    arrivals = poisson_arrivals(200, 20, 3)
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] <= arrivals[-1] < 20
    assert len(arrivals) == pytest.approx(4000, abs=400)
    assert len(poisson_arrivals(0.001, 1, 1)) == 1


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([], 99) == math.inf
    assert percentile([3.0], 50) == 3.0
    assert percentile([2.0, 1.0], 50) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_latency_counts_from_when_a_request_was_due() -> None:
    assert Outcome(scheduled=1.0, sent=3.0, ended=3.5).latency == 2.5


def test_a_fast_error_is_no_fast_answer() -> None:
    refused = [Outcome(0.0, 0.0, 0.001, "refused")] * 2
    answered = [Outcome(0.0, 0.0, 0.5 + n / 1000) for n in range(98)]
    summary = summarize([*refused, *answered], 1.0)
    assert summary.p99 == summary.maximum == math.inf
    assert summary.p99_answered == pytest.approx(0.597)
    assert (summary.num_offered, summary.num_answered) == (100, 98)
    assert summary.errors == {"refused": 2}
    assert summary.answered_per_second == 98
    with pytest.raises(ValueError, match="no request"):
        summarize([], 1.0)


def summary_of(*latencies: float, lost: int = 0) -> Summary:
    outcomes = [Outcome(0.0, 0.0, latency) for latency in latencies]
    return summarize([*outcomes, *[Outcome(0.0, 0.0, 30.0, "timeout")] * lost], 1.0)


def test_the_claim_needs_both_halves_and_is_judged_in_flasks_favour() -> None:
    assert judge(summary_of(0.4), summary_of(1.0), 30.0).holds
    assert not judge(summary_of(0.41), summary_of(1.0), 30.0).holds
    assert not judge(summary_of(*[0.4] * 200, lost=1), summary_of(10.0), 30.0).holds
    # What Flask lost does not make its answered requests slower.
    assert not judge(summary_of(0.5), summary_of(1.0, lost=50), 30.0).holds
    assert judge(summary_of(0.5), summary_of(lost=50), 30.0).reduction == pytest.approx(59 / 60)
    assert "DOES NOT HOLD" in str(judge(summary_of(lost=2), summary_of(1.0), 30.0))


def test_the_wrapper_is_a_program() -> None:
    wrapper = SCRIPTS / "bench-headline"
    assert os.access(wrapper, os.X_OK)
    subprocess.run(["bash", "-n", wrapper], check=True, timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.timeout(SMOKE_SECONDS + 60)
def test_a_smoke_run_measures_both_servers_and_writes_what_it_found(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "measure.headline", "--quick", "--out", tmp_path],
        cwd=SCRIPTS.parent,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, progress = process.communicate(timeout=SMOKE_SECONDS)
    finally:
        process.terminate()  # it stops its servers; killed, it could not
        process.wait(PATIENCE * 2)
    assert process.returncode == 0, progress
    assert "A smoke run claims nothing" in printed
    assert (tmp_path / "headline.md").read_text() in printed
    assert (tmp_path / "headline.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "headline.json").read_text())
    assert {(m["server"], m["model"]) for m in found["measured"]} == {
        (server, model)
        for server in ("llmserve", "Flask/Gunicorn")
        for model in ("simulated", "demo")
    }
    for measured in found["measured"]:
        assert (
            measured["num_answered"] + sum(measured["errors"].values()) == (measured["num_offered"])
        )
        assert measured["num_answered"] > 0, progress
