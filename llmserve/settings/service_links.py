"""Environment variables that Kubernetes and Docker set for a service and that look like settings.

A Service called `llmserve-canary` gives every pod in its namespace `LLMSERVE_CANARY_SERVICE_HOST`
and the like; one called `llmserve`, or a container linked under that name, also `LLMSERVE_PORT`.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

URL: Final = r"(?:tcp|udp|sctp)://\S+:\d+"
ENDPOINT: Final = r"PORT_\d+_(?:TCP|UDP|SCTP)"

SHAPES: Final = tuple(
    # The optional beginning is the service's name; it is missing if the service is `llmserve`.
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
"""The value of `ALIAS_NAME`, by which Docker announces a link: `/consumer/alias`."""


def service_links(variables: Mapping[str, str]) -> frozenset[str]:
    """Those of the names, given without our prefix, that describe a service.

    Both name and value must match: `PORT` is a setting when it is a number, and a service's when
    it is a URL.
    """
    return frozenset(
        name
        for name, value in variables.items()
        if _is_of_link(name, variables)
        or any(n.fullmatch(name) and v.fullmatch(value) for n, v in SHAPES)
    )


def _is_of_link(name: str, variables: Mapping[str, str]) -> bool:
    """Whether Docker's `ALIAS_NAME` is set, and `name` is it or the `ALIAS_ENV_…` of that link."""
    alias = re.split(r"(?:^|_)(?:NAME$|ENV_)", name, maxsplit=1)[0]
    if alias == name:
        return False
    announcement = f"{alias}_NAME" if alias else "NAME"
    return LINK_NAME.fullmatch(variables.get(announcement, "")) is not None
