"""All checks in order, each with a deadline. An unreachable server is one clear finding."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import httpx

from llmserve.doctor import (
    arrival,
    authorization,
    body_size,
    certificate,
    clock,
    compression,
    error_shape,
    hang_up,
    headers,
    idle,
    models,
    reachability,
    upgrade,
)
from llmserve.doctor.answer import Refused, printable
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.report import Report
from llmserve.doctor.target import Target
from llmserve.doctor.token_stream import MAX_SECONDS, record

CHECK_SECONDS: Final = 60.0
ARRIVAL_SECONDS: Final = len(arrival.SIZES) * MAX_SECONDS
FEW_TOKENS: Final = 32
Announce = Callable[[str], None]


async def examine(target: Target, announce: Announce = lambda name: None) -> Report:
    """Run all checks; `announce` is called with the name of each as it begins."""
    async with target.client() as client:
        return Report(target.url, tuple(await _Examination(client, target, announce).run()))


class _Examination:
    """One run over one server. Owned by the event loop."""

    def __init__(self, client: httpx.AsyncClient, target: Target, announce: Announce) -> None:
        self._client = client
        self._target = target
        self._announce = announce
        self._findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        contact = await self._reach()
        if self._target.is_tls:
            await self._check(certificate.NAME, self._certificate())
        if contact is None or not contact.response.is_success:
            return self._findings
        self._findings.append(
            clock.judge_clock(contact.response.headers.get("date"), contact.clock)
        )
        ready = await self._check(reachability.READY, reachability.check_readiness(self._client))
        await self._check(models.NAME, models.check_models(self._client))
        allowed = await self._check(
            authorization.NAME, authorization.check_authorization(self._client, self._target)
        )
        await self._check(error_shape.NAME, error_shape.check_error_shape(self._client))
        await self._check(compression.JSON, compression.check_json(self._client))
        if Verdict.PROBLEM in {ready.verdict, allowed.verdict}:
            self._findings.append(
                Finding(arrival.NAME, Verdict.SKIPPED, "nothing can be generated; see above")
            )
            return self._findings
        await self._generate(contact.latency_seconds)
        return self._findings

    async def _generate(self, latency_seconds: float) -> None:
        """The checks that need tokens, while another connection is kept silent."""
        waiting = asyncio.create_task(idle.check_idle(self._target), name="doctor-idle")
        try:
            await self._check(
                arrival.NAME,
                arrival.check_arrival(self._client, self._target, latency_seconds),
                ARRIVAL_SECONDS,
            )
            await self._stream()
            await self._check(body_size.NAME, body_size.check_body_size(self._client))
            await self._check(hang_up.NAME, hang_up.check_hang_up(self._client, self._target))
            await self._check(upgrade.NAME, upgrade.check_upgrade(self._target))
            await self._check(idle.NAME, waiting, CHECK_SECONDS + self._target.idle_seconds)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _stream(self) -> None:
        """One more stream, for its headers and compression."""
        sent = f"doctor-{uuid.uuid4().hex}"
        self._announce(compression.STREAM)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                recording = await record(
                    self._client, self._target, FEW_TOKENS,
                    encoding=compression.ENCODINGS, request_id=sent,
                )  # fmt: skip
        except (Refused, httpx.HTTPError, TimeoutError) as error:
            self._findings.append(_failed(compression.STREAM, error))
            return
        self._findings += [
            compression.judge_stream(recording),
            headers.judge_headers(recording),
            headers.judge_request_id(recording, sent),
        ]

    async def _reach(self) -> reachability.Contact | None:
        self._announce(reachability.NAME)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                contact = await reachability.reach(self._client)
        except (httpx.HTTPError, TimeoutError) as error:
            self._findings.append(reachability.unreachable(self._target.url, error))
            return None
        self._findings.append(reachability.judge_contact(contact))
        return contact

    async def _certificate(self) -> Finding:
        found = await certificate.inspect(self._target)
        return certificate.judge_certificate(found, self._target, time.time())

    async def _check(
        self, name: str, check: Awaitable[Finding], seconds: float = CHECK_SECONDS
    ) -> Finding:
        self._announce(name)
        try:
            async with asyncio.timeout(seconds):
                finding = await check
        except (Refused, httpx.HTTPError, OSError, TimeoutError) as error:
            finding = _failed(name, error)
        self._findings.append(finding)
        return finding


def _failed(name: str, error: Exception) -> Finding:
    if isinstance(error, Refused):
        return error.finding(name)
    what = f"{type(error).__name__} {printable(str(error))}".strip()
    return Finding(name, Verdict.PROBLEM, f"the check could not be finished: {what}")
