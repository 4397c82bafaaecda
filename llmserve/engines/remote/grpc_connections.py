"""The connections to one gRPC upstream."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import grpc

from llmserve.domain import RemoteSpec
from llmserve.engines.remote.transport import Unreachable
from llmserve.errors import ModelBroken

CALLS: Final = 4
"""At a time on one connection, before another is opened: a connection leads to one worker of the
upstream's box, and all of its calls with it."""
MOST_BYTES: Final = 16 * 2**20
"""Of one message."""
PING_MS: Final = 20_000
RECONNECT_MS: Final = 2000
"""At most between two tries to connect."""
READY: Final = grpc.ChannelConnectivity.READY
FAILED: Final = frozenset(
    {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}
)


class GrpcConnections:
    """Opened as they are needed, the least busy first. Owned by the event loop."""

    def __init__(
        self, target: str, spec: RemoteSpec, credentials: grpc.ChannelCredentials | None
    ) -> None:
        self._target = target
        self._spec = spec
        self._credentials = credentials
        self._calls: dict[grpc.aio.Channel, int] = {}

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[grpc.aio.Channel]:
        """A connection for one call."""
        channel = min(self._calls, key=self._calls.__getitem__, default=None)
        if channel is None or self._calls[channel] >= CALLS:
            channel = self._open()
            self._calls[channel] = 0
        self._calls[channel] += 1
        try:
            yield channel
        finally:
            if channel in self._calls:
                self._calls[channel] -= 1

    async def connect(self, channel: grpc.aio.Channel) -> None:
        """Wait until it is there.

        Raises:
            Unreachable: nobody answers.
        """
        try:
            async with asyncio.timeout(self._spec.connect_seconds):
                state = channel.get_state(try_to_connect=True)
                while state is not READY:
                    if state in FAILED:
                        raise Unreachable("it cannot be connected to")
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise Unreachable(f"no connection within {self._spec.connect_seconds:g} s") from None

    async def close(self) -> None:
        """All of them."""
        channels, self._calls = list(self._calls), {}
        for channel in channels:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        options = [
            ("grpc.use_local_subchannel_pool", 1),  # or all would share one connection
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.keepalive_time_ms", PING_MS),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.enable_http_proxy", int(self._spec.uses_proxy)),
            ("grpc.enable_retries", 0),  # what is sent again is decided elsewhere
            ("grpc.primary_user_agent", f"llmserve/{version('llmserve')}"),
        ]
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options)
        return grpc.aio.secure_channel(self._target, self._credentials, options)


def credentials_of(spec: RemoteSpec) -> grpc.ChannelCredentials:
    """Whose certificates are trusted, and our own, where the upstreams want one. Blocks on files.

    Raises:
        ModelBroken: one cannot be read.
    """
    machines = ssl.get_default_verify_paths().cafile
    authorities = spec.ca_file or (None if machines is None else Path(machines))
    return grpc.ssl_channel_credentials(
        root_certificates=_read(authorities),
        private_key=_read(spec.client_key_file),
        certificate_chain=_read(spec.client_cert_file),
    )


def _read(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise ModelBroken(f"{file} cannot be used for the upstreams: {error.strerror}") from error
