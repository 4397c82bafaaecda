"""Addresses of machines, as people, URLs and sockets write them."""

from __future__ import annotations

import ipaddress
from typing import Final

MAPPED: Final = "::ffff:"
"""An IPv4 peer of a socket that also speaks IPv6 (RFC 4291, section 2.5.5.2)."""


def authority(host: str, port: int) -> str:
    """Host and port as in a URL: IPv6 in brackets, with its zone escaped (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]:{port}" if ":" in host else f"{host}:{port}"


def without_brackets(host: str) -> str:
    """A host as a socket takes it: the brackets that a URL puts around IPv6 are removed."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def unmapped(host: str) -> str:
    """The IPv4 address of an IPv4-mapped one; every other host unchanged."""
    plain = host.removeprefix(MAPPED)
    return plain if "." in plain else host


def plain_address(host: str) -> str | None:
    """An IP address in its shortest form; `None` if `host` is not one.

    The zone is dropped: it may be any text.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return unmapped(str(getattr(address, "ipv4_mapped", None) or address))
