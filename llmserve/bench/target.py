"""The server that is measured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import urlsplit

from llmserve.address import authority
from llmserve.errors import ConfigurationError

Endpoint = Literal["completions", "chat"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `prefix` is the path before `/v1`."""

    host: str
    port: int
    is_tls: bool
    prefix: str
    api_key: str | None = None

    @classmethod
    def parse(cls, url: str, api_key: str | None = None) -> Self:
        """From a URL with or without a trailing `/v1`.

        Raises:
            ConfigurationError: this is no http(s) URL.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = parts.hostname or ""
            host.encode("idna")
        except ValueError:
            host = ""
        if not host or parts.scheme not in ("http", "https"):
            raise ConfigurationError(f"{url!r} is no URL of a server; write http://HOST:PORT")
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(host, port, parts.scheme == "https", prefix, api_key)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What TLS connections are made with."""
        return ssl.create_default_context() if self.is_tls else None

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One HTTP/1.1 request, ready to be sent; `path` begins after the prefix."""
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            f"Host: {authority(self.host, self.port)}",
            "Accept: text/event-stream, application/json",
            f"Content-Length: {len(body)}",
        ]
        if body:
            lines.append("Content-Type: application/json")
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
