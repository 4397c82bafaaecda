"""The server under examination, and how to talk to it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from llmserve.errors import ConfigurationError

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
"""The longest silence on any connection; the server's keep-alive comments are 15 s apart."""

GENERATION_SECONDS: Final = 20.0
"""Every generation ends itself after so long: a slow model gives fewer tokens, not no answer."""

DEFAULT_IDLE_SECONDS: Final = 20.0
"""A little longer than the server's keep-alive comments are apart."""

PROMPT: Final = "Once upon a time"
SCHEMES: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask and what with.

    Attributes:
        url: the base, with the path prefix that a proxy may add; without a slash at its end.
        model: the model of every prompt; the server's default if `None`.
        is_verified: False accepts any certificate; what is wrong with it is told all the same.
        idle_seconds: how long a silent connection is watched; 0 is not at all.
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
        """From what the command line was given.

        Raises:
            ConfigurationError: the URL is not one of http or https, or the key is no header.
        """
        base = url.strip().rstrip("/").removesuffix("/v1")
        try:
            parts = urlsplit(base)
            is_usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
            (parts.hostname or "").encode("idna")
            httpx.URL(base)
        except (ValueError, httpx.InvalidURL):
            is_usable = False
        if not is_usable:
            raise ConfigurationError(
                f"{url!r} is not a server's URL; give one as in https://llm.example.org"
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError("the URL carries a password; give a key with --api-key")
        if parts.query or parts.fragment:
            raise ConfigurationError(f"{url!r} has a query; give the URL up to its path")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError("the API key has characters that no header can carry")
        return cls(base, api_key or None, model, not insecure, max(0.0, idle_seconds))

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """The host's name or address, as certificates have it."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port to connect to."""
        parts = urlsplit(self.url)
        return parts.port or SCHEMES[parts.scheme]

    @property
    def websocket_url(self) -> str:
        """The socket route, under ws or wss."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
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
        """Trusts what this machine or httpx trusts; anybody where nothing is verified."""
        context = httpx.create_ssl_context()
        if self.is_verified:
            context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def prompt(self, max_tokens: int) -> dict[str, Any]:
        """A body or frame that generates so many tokens, unless time is up before."""
        body = {
            "prompt": PROMPT,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "temperature": 1.0,
            "seed": 1,
            "timeout": GENERATION_SECONDS,
        }
        return body if self.model is None else body | {"model": self.model}
