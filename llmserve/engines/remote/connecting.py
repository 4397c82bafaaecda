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
from llmserve.errors import ConfigurationError, ModelBroken
from llmserve.proto.extra import require_grpc

GRPC: Final = ("grpc://", "grpcs://")
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
        ModelBroken: a file with certificates cannot be used, or the extra for gRPC is missing.
    """
    remote = spec.remote
    assert remote is not None, "the model is served here"
    client = await asyncio.to_thread(_client, remote)

    speaks_grpc = any(url.startswith(GRPC) for url in remote.urls)
    dial = await asyncio.to_thread(_grpc_dial, spec, key, tokens) if speaks_grpc else None

    def transport(url: str) -> Transport:
        if dial is not None and url.startswith(GRPC):
            return dial(url)
        return HTTPTransport(url, remote, client, key, spec.sampling, tokens)

    upstreams = [
        Upstream(url, transport(url), clock, is_drained=is_drained(spec.name, url))
        for url in remote.urls
    ]
    return client, Upstreams(spec.name, upstreams, remote.health_seconds)


def _grpc_dial(
    spec: ModelSpec, key: UpstreamKey, tokens: LearnedTokens
) -> Callable[[str], Transport]:
    """What makes a transport over gRPC, which is imported only where it is spoken."""
    remote = spec.remote
    assert remote is not None, "the model is served here"
    try:
        require_grpc("an upstream speaks gRPC")
    except ConfigurationError as error:
        raise ModelBroken(error.message) from error
    from llmserve.engines.remote.grpc_connections import GrpcConnections, credentials_of
    from llmserve.engines.remote.grpc_transport import GrpcTransport

    is_encrypted = any(url.startswith("grpcs:") for url in remote.urls)
    credentials = credentials_of(remote) if is_encrypted else None

    def dial(url: str) -> Transport:
        scheme, _, target = url.partition("://")
        own = credentials if scheme == "grpcs" else None
        connections = GrpcConnections(target, remote, own)
        return GrpcTransport(connections, remote, key, spec.sampling, tokens)

    return dial


def _client(spec: RemoteSpec) -> httpx.AsyncClient:
    """Reading the machine's authorities takes 50 ms, so only where something is encrypted."""
    verify: ssl.SSLContext | bool = False
    if any(url.startswith("https:") for url in spec.urls):
        try:
            verify = ssl.create_default_context(cafile=spec.ca_file)
            if spec.client_cert_file is not None:
                verify.load_cert_chain(spec.client_cert_file, spec.client_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ModelBroken(
                f"the files with certificates cannot be used for the upstreams: {error}"
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
