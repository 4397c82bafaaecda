"""Does the server answer, how fast, and is it ready?"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import httpx

from llmserve.doctor.answer import describe, printable
from llmserve.doctor.finding import Change, Figure, Finding, Verdict

NUM_PROBES: Final = 5
NAME: Final = "reachability"
READY: Final = "readiness"
GATEWAY: Final = frozenset({502, 504})
"""A proxy's status codes for a server that does not answer."""


@dataclass(frozen=True, slots=True)
class Contact:
    """An answer to /health, and how long several of them took.

    Attributes:
        latencies: seconds, on an open connection if the server keeps it open.
        clock: this machine's clock half-way through the last one, in seconds since 1970.
    """

    response: httpx.Response
    latencies: tuple[float, ...]
    clock: float

    @property
    def latency_seconds(self) -> float:
        """How long an answer takes that needs no work."""
        return median(self.latencies)


async def reach(client: httpx.AsyncClient) -> Contact:
    """Ask /health a few times.

    Raises:
        httpx.HTTPError: there is no answer.
    """
    response = await client.get("/health")  # opens the connection; not counted
    latencies = []
    clock = time.time()
    for _ in range(NUM_PROBES):
        asked, clock = time.perf_counter(), time.time()
        response = await client.get("/health")
        latencies.append(time.perf_counter() - asked)
        clock += latencies[-1] / 2
    return Contact(response, tuple(latencies), clock)


def unreachable(url: str, error: Exception) -> Finding:
    """The finding for a server that does not answer, or is not trusted."""
    what = printable(str(error)) or type(error).__name__
    return Finding(NAME, Verdict.PROBLEM, f"{url} cannot be reached: {what}", _way_out(error))


def judge_contact(contact: Contact) -> Finding:
    """Judge whether llmserve itself answers, and how fast."""
    response = contact.response
    figures: dict[str, Figure] = {
        "status": response.status_code,
        "http_version": response.http_version,
        "server": printable(response.headers.get("server", "")) or None,
        "via": printable(response.headers.get("via", "")) or None,
        "latency_min_ms": round(1000 * min(contact.latencies), 2),
        "latency_median_ms": round(1000 * contact.latency_seconds, 2),
    }
    if response.is_success:
        seen = (
            f"{response.http_version}, /health in {figures['latency_min_ms']} ms at best, "
            f"{figures['latency_median_ms']} ms typically"
        )
        names = [str(figures[name]) for name in ("server", "via") if figures[name]]
        seen += f"; answered by {', '.join(names)}" if names else ""
        return Finding(NAME, Verdict.OK, seen, figures=figures)
    return Finding(
        NAME,
        Verdict.PROBLEM,
        f"/health answers {describe(response)}",
        _cure(response),
        figures,
    )


async def check_readiness(client: httpx.AsyncClient) -> Finding:
    """Check whether the server is ready for requests."""
    response = await client.get("/health/ready")
    status = _status(response)
    if response.is_success and status == "ready":
        return Finding(READY, Verdict.OK, "every model is ready")
    if status is not None:
        return Finding(
            READY, Verdict.PROBLEM, f"the server is {status}", ("wait until /health/ready is 200",)
        )
    return Finding(
        READY,
        Verdict.WARNING,
        f"/health/ready answers {describe(response)}",
        ("pass /health/ready on: a load balancer should send requests only where it is 200",),
    )


def _status(response: httpx.Response) -> str | None:
    try:
        status = response.json()["status"]
    except (ValueError, KeyError, TypeError):
        return None
    return printable(status) if isinstance(status, str) else None


def _way_out(error: Exception) -> Change:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                (
                    "see `certificate`; SSL_CERT_FILE=ca.pem trusts another authority, and "
                    "--insecure examines the rest without trust"
                ),
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectTimeout):
        return ("check the address and that no firewall drops the port",)
    return ("check the address, that the server runs, and that it listens beyond loopback",)


def _cure(response: httpx.Response) -> Change:
    if response.is_redirect:
        there = printable(response.headers.get("location", "")).removesuffix("/health")
        return (f"give the URL that it redirects to: {there}",)
    if response.status_code in GATEWAY:
        return (
            (
                "the proxy cannot reach llmserve: check that it runs, and the address in nginx's "
                "`proxy_pass`, HAProxy's `server` line or the ingress's service"
            ),
        )
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return ("an engine hangs or no backend is up: see the server's log",)
    return ("check the URL's path, and that the proxy passes /health to llmserve",)
