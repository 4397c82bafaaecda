"""What the real nginx tells an instance about a request, and what it never passes on."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path

import httpx
import pytest
from bounded import run
from deploy.instance import Instance, running_instance
from proxy import Proxy, running_proxy

OUTSIDE = {"allow 127.0.0.0/8;": ""}
"""Makes this machine another network."""


def status_of(proxy: Proxy, path: str) -> int:
    """Asks for a path as it is written, which an HTTP client would tidy up first."""
    connection = http.client.HTTPSConnection(
        "localhost", proxy.port, context=proxy.trust, timeout=20
    )
    try:
        connection.putrequest("GET", path)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def headers_of(instance: Instance) -> httpx.Headers:
    _, *lines = instance.heads[-1].strip().split("\r\n")
    return httpx.Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]


@pytest.mark.parametrize(
    "path",
    [
        "//admin/status",
        "/%61dmin/status",
        "/admin%2fstatus",
        "/./admin/status",
        "/v1/../admin/status",
        "/admin?key=1",
        "//metrics",
        "/%6detrics",
        "/health/../metrics",
    ],
)
def test_no_spelling_of_a_closed_path_reaches_an_instance(tmp_path: Path, path: str) -> None:
    async def test() -> None:
        async with running_instance() as instance:
            with running_proxy(tmp_path, [instance.port], **OUTSIDE) as proxy:
                assert await asyncio.to_thread(status_of, proxy, path) == 403
                assert instance.heads == []

    run(test)


def test_metrics_are_closed_to_private_networks_and_administration_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        # This machine is made a private network: what is open to one is open to it.
        private = {"allow 127.0.0.0/8;": "", "allow 10.0.0.0/8;": "allow 127.0.0.0/8;"}
        async with running_instance() as instance:
            with running_proxy(tmp_path, [instance.port], **private) as proxy:
                assert await asyncio.to_thread(status_of, proxy, "/metrics") == 403
                assert await asyncio.to_thread(status_of, proxy, "/admin/status") == 200

    run(test)


def test_an_instance_learns_who_asked_and_how(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_instance() as instance:
            with running_proxy(tmp_path, [instance.port]) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    sent = {"X-Request-ID": "abc", "X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6"}
                    await client.get("/v1/models", headers=sent)
                seen = headers_of(instance)
        assert seen["x-request-id"] == "abc"
        assert seen["x-forwarded-proto"] == "https"
        assert seen["x-real-ip"] == "127.0.0.1"
        # Appended: whoever trusts one proxy reads the last one, which a client cannot forge.
        assert seen["x-forwarded-for"] == "6.6.6.6, 127.0.0.1"
        assert instance.heads[-1].startswith("GET /v1/models HTTP/1.1\r\n")

    run(test)


def test_only_what_asks_for_an_upgrade_is_upgraded(tmp_path: Path) -> None:
    async def test() -> None:
        async with running_instance() as instance:
            with running_proxy(tmp_path, [instance.port]) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    await client.get("/v1/models")
                    assert "connection" not in headers_of(instance)
                    assert "upgrade" not in headers_of(instance)
                    asked = {"Upgrade": "websocket", "Connection": "Upgrade"}
                    await client.get("/ws", headers=asked)
                    assert headers_of(instance)["upgrade"] == "websocket"
                    assert headers_of(instance)["connection"] == "upgrade"

    run(test)
