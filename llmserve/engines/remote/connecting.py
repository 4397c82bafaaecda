"""Makes the upstreams of a model, with one client and its pool of connections for all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from importlib.metadata import version

import httpx

from llmserve.domain import ModelSpec, RemoteSpec
from llmserve.engines.remote.connection_pool import ConnectionPool
from llmserve.engines.remote.fleet import Upstreams
from llmserve.engines.remote.http_transport import HTTPTransport
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.transport import Transport
from llmserve.engines.remote.upstream import Upstream
from llmserve.errors import ModelBroken


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
    client = await asyncio.to_thread(_client, remote, clock)

    def transport(url: str) -> Transport:
        return HTTPTransport(url, remote, client, key, spec.sampling, tokens)

    upstreams = [
        Upstream(url, transport(url), clock, is_drained=is_drained(spec.name, url))
        for url in remote.urls
    ]
    return client, Upstreams(spec.name, upstreams, remote.health_seconds)


def _client(spec: RemoteSpec, clock: Callable[[], float]) -> httpx.AsyncClient:
    """Reading the machine's authorities takes 50 ms, so only where something is encrypted."""
    tls: ssl.SSLContext | None = None
    if any(url.startswith("https:") for url in spec.urls):
        try:
            tls = ssl.create_default_context(cafile=spec.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ModelBroken(f"ca_file cannot be used for the upstreams: {error}") from error
    headers = {"User-Agent": f"llmserve/{version('llmserve')}", "Accept-Encoding": "identity"}
    # What else may take too long is measured elsewhere, by a clock that leaves out pauses.
    timeout = httpx.Timeout(None, connect=spec.connect_seconds)
    if spec.uses_proxy:  # which httpx knows how to speak to
        return httpx.AsyncClient(
            headers=headers, timeout=timeout, verify=tls or False, limits=httpx.Limits()
        )
    pool = ConnectionPool(tls, spec.connect_seconds, clock)
    return httpx.AsyncClient(headers=headers, timeout=timeout, transport=pool, trust_env=False)
