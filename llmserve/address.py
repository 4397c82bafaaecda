"""Addresses of machines, as people, URLs and sockets write them."""

from __future__ import annotations

import ipaddress
from typing import Final

MAPPED: Final = "::ffff:"
"""An IPv4 peer of a socket that also speaks IPv6 (RFC 4291, section 2.5.5.2)."""


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them: IPv6 in brackets, with its zone escaped (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def without_brackets(host: str) -> str:
    """A host as a socket wants it, from what a URL would have."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def unmapped(host: str) -> str:
    """The IPv4 address of an IPv4 peer; every other host as it is."""
    plain = host.removeprefix(MAPPED)
    return plain if "." in plain else host


def plain_address(host: str) -> str | None:
    """The IP address that `host` is, in its shortest form and without a zone, which may be any
    text; `None` for every other word."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return unmapped(str(getattr(address, "ipv4_mapped", None) or address))
