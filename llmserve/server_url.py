"""The URL of a server, in the one form that every command takes."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from llmserve.errors import ConfigurationError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
"""A server with default settings on this machine."""

PORTS: Final = {"http": 80, "https": 443}


def server_url(url: str) -> SplitResult:
    """The base URL: without a trailing slash, and without the `/v1` that OpenAI's clients need.

    Raises:
        ConfigurationError: no server can have this URL; says why.
    """
    try:
        parts = urlsplit(url.strip(" "))
        _check(parts, url)
    except ValueError as error:
        raise ConfigurationError(
            f"{url!r} is not a server's URL ({error}); write it as http://HOST:PORT"
        ) from error
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))


def port_of(parts: SplitResult) -> int:
    """The port to connect to."""
    return parts.port or PORTS[parts.scheme]


def _check(parts: SplitResult, url: str) -> None:
    # `urlsplit` removes some of these silently.
    if any(c <= " " or c == "\x7f" for c in url.strip(" ")):
        raise ValueError("it has blanks or control characters")
    if parts.scheme not in PORTS:
        raise ValueError("it must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.port == 0:  # what is not a number raises an error of its own
        raise ValueError("0 is not a port")
    if parts.query or parts.fragment:
        raise ValueError("it has a query or a fragment")
    parts.hostname.encode("idna")
    parts.path.encode("ascii")
