"""A real server in surroundings that it did not choose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from control_group import limited
from server import running_server


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
    with running_server(tmp_path, tiny_model, **links) as server:
        assert server.wait_until("/health/ready", 200).json()["status"] == "ready"
        assert server.stop() == 0


@pytest.mark.parametrize("engine", ["threaded", "batching"])
def test_a_quota_bounds_threads_cache_and_preflight(
    tiny_model: Path, tmp_path: Path, engine: str
) -> None:
    most = 2 * 2**30
    with (
        limited(processors=1.5, memory_bytes=most),
        running_server(tmp_path, tiny_model, engine=engine, max_running=1) as server,
    ):
        log = server.log
    assert re.search(r"1 at once, 1 CPU threads", log)
    free = re.search(r"memory preflight: the host: .* of ([\d.]+) GiB free", log)
    assert free is not None
    assert float(free[1]) <= 2.0
    if engine == "batching":
        cached = re.search(r"of ([\d,]+) bytes free", log)
        assert cached is not None
        assert int(cached[1].replace(",", "")) < most
