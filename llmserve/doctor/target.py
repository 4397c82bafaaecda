"""The server under examination, and how to talk to it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from llmserve.errors import ConfigurationError
from llmserve.server_url import port_of, server_url

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
"""The longest silence on any connection; the server's keep-alive comments come every 15 s."""

GENERATION_SECONDS: Final = 20.0
"""Timeout of every generation: a slow model then gives fewer tokens instead of no answer."""

DEFAULT_IDLE_SECONDS: Final = 20.0
"""A little longer than the interval of the server's keep-alive comments."""

PROMPT: Final = "Once upon a time"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask and what with.

    Attributes:
        url: the base, with the path prefix that a proxy may add, without a trailing slash.
        model: the model of every prompt; the server's default if `None`.
        is_verified: `False` accepts any certificate; its faults are still reported.
        idle_seconds: how long a silent connection is watched; 0 skips this check.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    is_verified: bool = True
    idle_seconds: float = DEFAULT_IDLE_SECONDS

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        insecure: bool = False,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
    ) -> Self:
        """From the command line's arguments.

        Raises:
            ConfigurationError: it is not a server's URL, or the key cannot be sent in a header.
        """
        parts = server_url(url)
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError("the URL contains a password; give a key with --api-key")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError("the API key has characters that a header cannot contain")
        return cls(parts.geturl(), api_key or None, model, not insecure, max(0.0, idle_seconds))

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """The host's name or address, as in certificates."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port to connect to."""
        return port_of(urlsplit(self.url))

    @property
    def websocket_url(self) -> str:
        """The URL of the WebSocket route, with ws or wss."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}

    def client(self) -> httpx.AsyncClient:
        """A client with a deadline on every step."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers=self.headers,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            verify=self.ssl_context(),
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts what this machine or httpx trusts; with `--insecure`, any certificate."""
        context = httpx.create_ssl_context()
        if self.is_verified:
            context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def prompt(self, max_tokens: int) -> dict[str, Any]:
        """A body or frame that generates so many tokens, unless the timeout comes first."""
        body = {
            "prompt": PROMPT,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "temperature": 1.0,
            "seed": 1,
            "timeout": GENERATION_SECONDS,
        }
        return body if self.model is None else body | {"model": self.model}
