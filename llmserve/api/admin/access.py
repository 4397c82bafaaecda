"""Who may operate the server: holders of an admin key; without one, anybody on this machine."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from llmserve.api.container import credential_of
from llmserve.bootstrap import Container
from llmserve.domain import Caller, Scope
from llmserve.errors import Forbidden, Unauthorized

FORWARDING_HEADERS = ("x-forwarded-for", "forwarded", "x-real-ip")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
ADMIN: Final = "llmserve.admin"
"""Where the scope keeps the operator."""


async def identify_admin(connection: HTTPConnection, container: Container) -> Caller:
    """The operator who is calling, kept in the scope for the route.

    Without any admin key only requests from this machine are let in, and only if the server
    listens on loopback: none through a proxy, and none from a web page under another name.

    Raises:
        Unauthorized: an admin key is required and missing.
        Forbidden: the key is not an operator's, or the request comes from elsewhere.
    """
    connection.scope[ADMIN] = caller = _operator(connection, container)
    return caller


def _operator(connection: HTTPConnection, container: Container) -> Caller:
    keys = container.keys
    if keys.has_admin_keys:
        caller = keys.identify(credential_of(connection))
        if Scope.ADMIN in caller.scopes:
            return caller
        if credential_of(connection) is None:
            raise Unauthorized("no admin key; send it as `Authorization: Bearer ADMIN_KEY`")
        raise Forbidden("this key has not the scope `admin`")
    if not _is_from_here(connection, container.settings.host):
        raise Forbidden(
            "administration is off: set `admin_keys`, or listen on loopback and ask directly"
        )
    return Caller(name="local-admin", scopes=frozenset(Scope))


def _is_from_here(connection: HTTPConnection, host: str) -> bool:
    client = connection.client.host if connection.client is not None else ""
    name = connection.headers.get("host", "")
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    return (
        _is_loopback(host)
        and _is_loopback(client)
        and name in LOOPBACK_NAMES
        and not any(header in connection.headers for header in FORWARDING_HEADERS)
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _admin(connection: HTTPConnection) -> Caller:
    return cast(Caller, connection.scope[ADMIN])


TheAdmin = Annotated[Caller, Depends(_admin)]
"""The operator whom the route let in (`keyed_route`)."""
