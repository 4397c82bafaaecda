"""Makes the upstreams of a model, with one client and its pool of connections for all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

import httpx

from llmserve.domain import ModelSpec, RemoteSpec
from llmserve.engines.remote.fleet import Upstreams
from llmserve.engines.remote.http_transport import HTTPTransport
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.transport import Transport
from llmserve.engines.remote.upstream import Upstream
from llmserve.errors import ModelBroken

SPARE_CONNECTIONS: Final = 8
"""Beside those of requests: for health checks."""
IDLE_SECONDS: Final = 4.0
"""That a connection is kept without a request: less than the 5 s that Uvicorn keeps it."""


async def connect(
    spec: ModelSpec,
    key: UpstreamKey,
    tokens: LearnedTokens,
    is_drained: Callable[[str, str], bool],
    clock: Callable[[], float],
) -> tuple[httpx.AsyncClient, Upstreams]:
    """The client, which has to be closed, and the upstreams, of which none was asked yet.

    Raises:
        ModelBroken: the file with the authorities cannot be used.
    """
    remote = spec.remote
    assert remote is not None, "the model is served here"
    client = await asyncio.to_thread(_client, remote)

    def transport(url: str) -> Transport:
        return HTTPTransport(url, remote, client, key, spec.sampling, tokens)

    upstreams = [
        Upstream(url, transport(url), clock, is_drained=is_drained(spec.name, url))
        for url in remote.urls
    ]
    return client, Upstreams(spec.name, upstreams, remote.health_seconds)


def _client(spec: RemoteSpec) -> httpx.AsyncClient:
    """Reading the machine's authorities takes 50 ms, so only where something is encrypted."""
    verify: ssl.SSLContext | bool = False
    if any(url.startswith("https:") for url in spec.urls):
        try:
            verify = ssl.create_default_context(cafile=spec.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ModelBroken(
                f"ca_file {spec.ca_file} cannot be used for the upstreams: {error}"
            ) from error
    connections = spec.max_running + SPARE_CONNECTIONS
    return httpx.AsyncClient(
        headers={"User-Agent": f"llmserve/{version('llmserve')}", "Accept-Encoding": "identity"},
        limits=httpx.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=IDLE_SECONDS,
        ),
        # What else may take too long is measured elsewhere, by a clock that leaves out pauses.
        timeout=httpx.Timeout(None, connect=spec.connect_seconds, pool=spec.connect_seconds),
        verify=verify,
        trust_env=spec.uses_proxy,
        follow_redirects=False,
    )
