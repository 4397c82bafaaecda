"""A real server in surroundings that it did not choose."""

from __future__ import annotations

from pathlib import Path

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
