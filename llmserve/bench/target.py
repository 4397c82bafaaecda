"""The server that is measured."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal, Self

from llmserve.address import authority
from llmserve.server_url import port_of, server_url

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
        """From a server's URL; `http://` may be left out.

        Raises:
            ConfigurationError: it is not one.
        """
        parts = server_url(url if "://" in url else f"http://{url}")
        is_tls = parts.scheme == "https"
        return cls(parts.hostname or "", port_of(parts), is_tls, parts.path, api_key)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context for TLS connections; `None` without TLS."""
        return ssl.create_default_context() if self.is_tls else None

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One HTTP/1.1 request as bytes; `path` is appended to the prefix."""
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
