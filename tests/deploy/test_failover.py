"""Which of several instances the real nginx asks, when one says no or does not answer."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from bounded import run
from deploy.instance import running_instance
from proxy import running_proxy
from server import free_port

ONE_WORKER = {"worker_processes auto;": "worker_processes 1;"}
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\nRetry-After: 5\r\n\r\ndraining"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_draining_instance_refuses_another_one_serves(tmp_path: Path, method: str) -> None:
    async def test() -> None:
        async with running_instance(BUSY) as leaving, running_instance() as staying:
            ports = [leaving.port, staying.port]
            with running_proxy(tmp_path, ports, **ONE_WORKER) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    answers = [await client.request(method, "/generate") for _ in range(8)]
        assert {answer.status_code for answer in answers} == {200}
        assert leaving.heads
        assert len(staying.heads) == 8

    run(test)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_dead_instance_cannot_take_another_one_serves(tmp_path: Path, method: str) -> None:
    async def test() -> None:
        async with running_instance() as staying:
            ports = [free_port(), staying.port]
            with running_proxy(tmp_path, ports, **ONE_WORKER) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    answers = [await client.request(method, "/generate") for _ in range(8)]
        assert {answer.status_code for answer in answers} == {200}

    run(test)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_by_all_is_passed_on_and_takes_no_instance_out(
    tmp_path: Path, method: str
) -> None:
    """A model that is broken everywhere must not take the others away, nor say 502."""

    async def test() -> None:
        async with running_instance(BUSY) as one, running_instance(BUSY) as two:
            with running_proxy(tmp_path, [one.port, two.port], **ONE_WORKER) as proxy:
                async with httpx.AsyncClient(base_url=proxy.url, verify=proxy.trust) as client:
                    answers = [await client.request(method, "/generate") for _ in range(8)]
        assert {answer.status_code for answer in answers} == {503}
        assert answers[-1].headers["Retry-After"] == "5"
        assert len(one.heads) == len(two.heads) == 8

    run(test)


def test_a_request_that_nobody_answers_is_given_to_two_at_most(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            running_instance(None) as one,
            running_instance(None) as two,
            running_instance(None) as three,
        ):
            impatient = {"proxy_read_timeout 650s;": "proxy_read_timeout 1s;"}
            ports = [one.port, two.port, three.port]
            with running_proxy(tmp_path, ports, **ONE_WORKER, **impatient) as proxy:
                async with httpx.AsyncClient(
                    base_url=proxy.url, verify=proxy.trust, timeout=30
                ) as client:
                    answer = await client.post("/generate", content=b"{}")
        assert answer.status_code == 504
        assert len(one.heads) + len(two.heads) + len(three.heads) == 2

    run(test)
