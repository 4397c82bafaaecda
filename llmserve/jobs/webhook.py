"""Tells a client's server that a batch ended: signed as https://www.standardwebhooks.com says, and
tried again until it is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import orjson
from loguru import logger

from llmserve.errors import InvalidRequest
from llmserve.jobs.batch import Batch, Webhook

if TYPE_CHECKING:
    import httpx

RETRY_SECONDS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
"""After each attempt that failed; then it is given up."""
TIMEOUT_SECONDS: Final = 10.0
ENCODED: Final = "whsec_"
"""What begins a secret that is written in base64."""
PORTS: Final = {"http": 80, "https": 443}


class Webhooks:
    """`allowed` are the beginnings of URLs that the operator lets clients name: this server may
    reach what they cannot."""

    def __init__(
        self,
        allowed: Sequence[str],
        secret: str,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._allowed = [urlsplit(one) for one in allowed]
        self._secret = _bytes_of(secret)
        self._transport = transport
        self._clock = clock

    def check(self, url: str) -> None:
        """Raises: InvalidRequest: clients may not name this URL."""
        try:
            parts = urlsplit(url)
            is_allowed = any(_is_below(parts, one) for one in self._allowed)
        except ValueError:
            is_allowed = False
        if not is_allowed:
            raise InvalidRequest(
                "this URL is not among those that this server may call; its operator allows "
                "others with the setting `webhook_urls`",
                param="webhook_url",
            )

    async def tell(self, batch: Batch, webhook: Webhook) -> float | None:
        """Try once. Returns after how many seconds to try again, or `None`: it was taken, or it
        was tried often enough."""
        import httpx  # most servers call nobody

        body = orjson.dumps(_event(batch))
        event_id = f"evt_{batch.id}"
        try:
            self.check(webhook.url)  # the setting may have changed since
            async with httpx.AsyncClient(
                transport=self._transport, timeout=TIMEOUT_SECONDS
            ) as client:
                answer = await client.post(
                    webhook.url, content=body, headers=self._headers(event_id, body)
                )
            problem = f"it answered {answer.status_code}"
            if answer.is_success:
                return None
        except (httpx.HTTPError, httpx.InvalidURL, InvalidRequest) as error:
            problem = str(error) or type(error).__name__
        if webhook.attempts >= len(RETRY_SECONDS):
            logger.warning("webhook of {} given up: {}", batch.id, problem)
            return None
        return RETRY_SECONDS[webhook.attempts]

    def _headers(self, event_id: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        signed = b".".join((event_id.encode(), timestamp.encode(), body))
        digest = hmac.digest(self._secret, signed, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }


def _event(batch: Batch) -> dict[str, object]:
    return {
        "object": "event",
        "id": f"evt_{batch.id}",
        "type": f"{batch.kind}.{batch.status}",
        "created_at": int(batch.ended_at or 0),
        "data": {"id": batch.id},
    }


def _bytes_of(secret: str) -> bytes:
    if secret.startswith(ENCODED):
        return base64.b64decode(secret.removeprefix(ENCODED))
    return secret.encode()


def _is_below(url: SplitResult, allowed: SplitResult) -> bool:
    """Whether the URL is at the same origin, and its path below the other's."""
    if url.username is not None or url.scheme not in PORTS or "\\" in url.geturl():
        return False
    if (url.scheme, url.hostname, url.port or PORTS[url.scheme]) != (
        allowed.scheme,
        allowed.hostname,
        allowed.port or PORTS.get(allowed.scheme),
    ):
        return False
    if "." in (part.lower().replace("%2e", ".")[:1] for part in url.path.split("/")):
        return False  # what goes up again
    above = allowed.path.rstrip("/")
    return url.path == above or url.path.startswith(f"{above}/")
