"""Variables that Kubernetes and Docker make for a service, and that only look like settings.

A Service called `llmserve-canary` gives every pod of its namespace `LLMSERVE_CANARY_SERVICE_HOST`
and the like; one called `llmserve`, or a container linked under that name, `LLMSERVE_PORT`, too.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

URL: Final = r"(?:tcp|udp|sctp)://\S+:\d+"
ENDPOINT: Final = r"PORT_\d+_(?:TCP|UDP|SCTP)"

SHAPES: Final = tuple(
    # What stands before is the service's name; nothing, where it is called as our prefix is.
    (re.compile(rf"(?:[A-Z0-9_]+_)?{name}"), re.compile(value))
    for name, value in (
        ("SERVICE_HOST", r"\S+"),
        ("SERVICE_PORT(?:_[A-Z0-9_]+)?", r"\d+"),
        ("PORT", URL),
        (rf"{ENDPOINT}(?:_START|_END)?", URL),
        (rf"{ENDPOINT}_PORT(?:_START|_END)?", r"\d+"),
        (rf"{ENDPOINT}_PROTO", "tcp|udp|sctp"),
        (rf"{ENDPOINT}_ADDR", r"\S+"),
    )
)
LINK_NAME: Final = re.compile(r"/[^/\s]+/[^/\s]+")
"""The value of `ALIAS_NAME`, by which Docker tells of a link: `/consumer/alias`."""


def service_links(variables: Mapping[str, str]) -> frozenset[str]:
    """The names among these, without our prefix, that tell of a service.

    Name and value must both have the shape: `PORT` is ours when it is a number, and a service's
    when it is a URL.
    """
    return frozenset(
        name
        for name, value in variables.items()
        if _is_of_link(name, variables)
        or any(n.fullmatch(name) and v.fullmatch(value) for n, v in SHAPES)
    )


def _is_of_link(name: str, variables: Mapping[str, str]) -> bool:
    """Whether Docker's `ALIAS_NAME` is there, and this is it or `ALIAS_ENV_…` beside it."""
    alias = re.split(r"(?:^|_)(?:NAME$|ENV_)", name, maxsplit=1)[0]
    if alias == name:
        return False
    teller = f"{alias}_NAME" if alias else "NAME"
    return LINK_NAME.fullmatch(variables.get(teller, "")) is not None
