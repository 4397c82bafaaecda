"""A real server in surroundings that it did not choose."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import httpx
from control_group import limited
from gated_imports import gate_before
from server import Server, idle_server, running_server


def by_each_engine(model: Path, folder: Path) -> tuple[str, ...]:
    """Put copies of a model into `models`; each is named after the engine that serves it."""
    engines = ("batching", "threaded")
    for engine in engines:
        shutil.copytree(model, folder / "models" / engine)
        (folder / "models" / engine / "model.toml").write_text(f"engine = '{engine}'\n")
    return engines


def test_services_called_like_us_do_not_stop_the_start(tiny_model: Path, tmp_path: Path) -> None:
    links = {
        "canary_service_host": "10.0.0.1",
        "canary_service_port": "80",
        "canary_service_port_http": "80",
        "canary_port": "tcp://10.0.0.1:80",
        "canary_port_80_tcp": "tcp://10.0.0.1:80",
        "canary_port_80_tcp_proto": "tcp",
        "canary_port_80_tcp_port": "80",
        "canary_port_80_tcp_addr": "10.0.0.1",
        "port": "tcp://10.0.0.2:8000",
        "service_host": "10.0.0.2",
    }
    with idle_server(tmp_path, tiny_model, **links) as server:
        assert server.wait_until("/health/ready", 200).json()["status"] == "ready"
        assert server.stop() == 0


def test_a_quota_bounds_threads_cache_and_preflight(tiny_model: Path, tmp_path: Path) -> None:
    most = 2 * 2**30
    engines = by_each_engine(tiny_model, tmp_path)
    with (
        limited(processors=1.5, memory_bytes=most),
        running_server(tmp_path, *engines, is_fork=False, max_running=1) as server,
    ):
        log = server.log
    assert len(re.findall(r"1 at once, 1 CPU threads", log)) == len(engines)
    free = re.search(r"memory preflight: the host: .* of ([\d.]+) GiB free", log)
    assert free is not None
    assert float(free[1]) <= 2.0
    cached = re.search(r"of ([\d,]+) bytes free", log)
    assert cached is not None
    assert int(cached[1].replace(",", "")) < most


def test_the_port_answers_while_torch_is_still_being_imported(
    tiny_model: Path, tmp_path: Path
) -> None:
    engines = by_each_engine(tiny_model, tmp_path)
    with (
        gate_before("torch", tmp_path) as gate,
        running_server(tmp_path, *engines, wait=False) as server,
    ):
        assert server.wait_until("/health", 200).json()["status"] == "alive"
        body = server.wait_until("/health/ready", 503).json()
        assert [model["status"] for model in body["models"]] == ["loading"] * 2
        assert (body["status"], body["models"][0]["stage"]) == ("loading", "imports")
        assert server.metric("llmserve_worker_up") == 1
        request = {"prompt": "Hello", "max_tokens": 2}
        asked = [request | {"model": engine} for engine in engines]
        for body in asked:
            refused = httpx.post(server.url + "/generate", json=body, timeout=20)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "model_loading"
        gate.open()
        server.wait_until("/health/ready", 200)
        for body in asked:
            assert httpx.post(server.url + "/generate", json=body, timeout=20).is_success


def test_a_server_that_still_imports_can_be_stopped(tiny_model: Path, tmp_path: Path) -> None:
    with (
        gate_before("transformers", tmp_path) as gate,
        running_server(tmp_path, tiny_model, wait=False) as server,
    ):
        server.wait_until("/health", 200)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("Waiting for application shutdown", times=1)
        gate.open()
        assert server.stop() == 0
        assert "is ready after" not in server.log


def test_the_log_says_what_the_start_took(plain: Server) -> None:
    log = plain.log
    for beginning, stages in {
        "the port is open # after the start: ": [
            "imports and settings", "memory preflight", "supervisor",
        ],
        "worker 0 accepts connections # after its start: ": [
            "imports", "settings", "application", "event loop",
        ],
        "model tiny is ready after # (": [
            "imports", "tokenizer", "weights", "checking the model", "preparing the engine",
            "warm-up",
        ],
    }.items():  # fmt: skip
        line = re.escape(beginning) + ", ".join(f"{stage} #" for stage in stages)
        assert re.search(line.replace(r"\#", "#").replace("#", r"[\d.]+ s"), log), log


def test_the_server_for_development_starts_and_tells_where(
    tiny_model: Path, tmp_path: Path
) -> None:
    address = tmp_path / "address"
    with idle_server(tmp_path, tiny_model, reload=True, address_file=address) as server:
        server.wait_until("/health", 200)
        assert address.read_text().strip() == server.url
        server.stop()
    assert not address.exists()
