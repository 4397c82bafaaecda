"""Makes the upstreams of a model, with one client and its pool of connections for all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

import httpx

from llmserve.domain import ModelSpec, RemoteSpec
from llmserve.engines.remote.connection_pool import ConnectionPool
from llmserve.engines.remote.fleet import Upstreams
from llmserve.engines.remote.http_transport import HTTPTransport
from llmserve.engines.remote.key import UpstreamKey
from llmserve.engines.remote.learned_tokens import LearnedTokens
from llmserve.engines.remote.transport import Transport
from llmserve.engines.remote.upstream import Upstream
from llmserve.errors import ConfigurationError, ModelBroken
from llmserve.proto.extra import require_grpc

GRPC: Final = ("grpc://", "grpcs://")


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
    client = await asyncio.to_thread(_client, remote, clock)

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


def _client(spec: RemoteSpec, clock: Callable[[], float]) -> httpx.AsyncClient:
    """Reading the machine's authorities takes 50 ms, so only where something is encrypted."""
    tls: ssl.SSLContext | None = None
    if any(url.startswith("https:") for url in spec.urls):
        try:
            tls = ssl.create_default_context(cafile=spec.ca_file)
            if spec.client_cert_file is not None:
                tls.load_cert_chain(spec.client_cert_file, spec.client_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ModelBroken(
                f"the files with certificates cannot be used for the upstreams: {error}"
            ) from error
    headers = {"User-Agent": f"llmserve/{version('llmserve')}", "Accept-Encoding": "identity"}
    # What else may take too long is measured elsewhere, by a clock that leaves out pauses.
    timeout = httpx.Timeout(None, connect=spec.connect_seconds)
    if spec.uses_proxy:  # which httpx knows how to speak to
        return httpx.AsyncClient(
            headers=headers, timeout=timeout, verify=tls or False, limits=httpx.Limits()
        )
    pool = ConnectionPool(tls, spec.connect_seconds, clock)
    return httpx.AsyncClient(headers=headers, timeout=timeout, transport=pool, trust_env=False)
