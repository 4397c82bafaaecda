"""Does the server notice that a client disconnected, or does it go on generating?"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import httpx

from llmserve.doctor.answer import Refused
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.target import Target

NAME: Final = "hang-up"
MAX_TOKENS: Final = 100_000
"""More than any context: the generation must outlast the check."""

NOTICE_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
SAMPLE: Final = re.compile(r"^(\w+)(?:\{.*\})? ([0-9.eE+]+)$", re.MULTILINE)
RUNNING: Final = "llmserve_num_requests_running"
CANCELLED: Final = "llmserve_request_cancelled_total"
TELL: Final = (
    "nginx: `proxy_ignore_client_abort off;` (the default) and `proxy_buffering off;`",
    "HAProxy: `option abortonclose`",
    "ingress-nginx: no `proxy_ignore_client_abort` in a configuration-snippet",
)


@dataclass(frozen=True, slots=True)
class Load:
    """The server's load from /metrics at one moment, over all models."""

    running: float
    cancelled: float

    @classmethod
    def read(cls, text: str) -> Load | None:
        """From Prometheus's text format; `None` if it is not llmserve's."""
        samples = [(name, float(value)) for name, value in SAMPLE.findall(text)]
        if not any(name == RUNNING for name, _ in samples):
            return None
        running, cancelled = (
            sum(value for name, value in samples if name == wanted)
            for wanted in (RUNNING, CANCELLED)
        )
        return cls(running, cancelled)


async def check_hang_up(client: httpx.AsyncClient, target: Target) -> Finding:
    """Start a long stream, disconnect after its first token, and watch the server's metrics.

    Raises:
        Refused: the server does not generate now.
    """
    before = await _load(client)
    if before is None:
        return Finding(
            NAME,
            Verdict.SKIPPED,
            f"/metrics does not show {RUNNING} to this client",
            ("run the doctor with a key that may read /metrics, or from inside",),
        )
    during = await _leave_early(client, target)
    if during is None or during.running <= before.running:
        return Finding(
            NAME,
            Verdict.SKIPPED,
            "the generation had ended before the client disconnected",
        )
    return await _watch(client, during)


async def _leave_early(client: httpx.AsyncClient, target: Target) -> Load | None:
    """The load just before the client disconnects, our own stream included."""
    body = target.prompt(MAX_TOKENS) | {"stream": True}
    headers = {"Accept-Encoding": "identity"}
    async with client.stream("POST", "/generate", json=body, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
            raise Refused.by(response)
        seen = b""
        async for part in response.aiter_bytes():
            seen = seen[-64:] + part
            if b"data:" in seen:
                return await _load(client)
    return None


async def _watch(client: httpx.AsyncClient, during: Load) -> Finding:
    waited = 0.0
    while waited < NOTICE_SECONDS:
        after = await _load(client)
        if after is None:
            return Finding(NAME, Verdict.SKIPPED, "/metrics stopped answering")
        figures = {"noticed_seconds": round(waited, 1)}
        if after.cancelled > during.cancelled:
            seen = f"the server stopped within {waited + POLL_SECONDS:.1f} s"
            return Finding(NAME, Verdict.OK, seen, figures=figures)
        if after.running < during.running:
            seen = "the generation ended, but not because the client disconnected"
            return Finding(NAME, Verdict.SKIPPED, seen, figures=figures)
        await asyncio.sleep(POLL_SECONDS)
        waited += POLL_SECONDS
    return Finding(
        NAME,
        Verdict.PROBLEM,
        f"the server still generates {NOTICE_SECONDS:.0f} s after the client disconnected",
        TELL,
        {"running": during.running},
    )


async def _load(client: httpx.AsyncClient) -> Load | None:
    response = await client.get("/metrics")
    return Load.read(response.text) if response.is_success else None
