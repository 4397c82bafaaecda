"""Fields that nobody knows: accepted and reported to the client, or refused (`strict_fields`)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.requests import HTTPConnection

from llmserve.api.fields import NOT_A_FIELD, FieldPath, Fields
from llmserve.api.validation import MAX_SHOWN
from llmserve.bootstrap import Container
from llmserve.domain import Caller
from llmserve.errors import InvalidRequest

HEADER: Final = "X-Ignored-Fields"
IN_SCOPE: Final = "llmserve.ignored_fields"
MAX_REPORTED: Final = 16
MAX_NAME: Final = 64
"""Characters of a client's own name for a field, percent-encoded."""


def report_ignored(
    body: Fields, connection: HTTPConnection, container: Container, caller: Caller
) -> list[str]:
    """Report the ignored fields of this body in the response's header, the log and the metrics.

    Returns:
        the fields, such as `metadata` or `messages.cache_control`.

    Raises:
        InvalidRequest: there is one, and the server is strict.
    """
    unknown = body.unknown(MAX_REPORTED)
    if unknown.first is None:
        return []
    if container.settings.strict_fields:
        field = ".".join(map(str, unknown.first))[:MAX_SHOWN]
        raise InvalidRequest(f"{field!r} {NOT_A_FIELD}", param=field)
    fields = list(dict.fromkeys(_name(path, name) for path, name in unknown))
    container.ignored_fields.tell(_client(connection, caller), fields)
    if unknown.more:
        fields.append(f"+{unknown.more}")
    connection.scope[IN_SCOPE] = ", ".join(fields)
    return fields


def tell_ignored_header(
    name: str, connection: HTTPConnection, container: Container, caller: Caller
) -> None:
    """Report a header of this request that the server ignores, if it was sent; after
    `report_ignored`. A strict server, too, accepts it: clients send what their version knows."""
    if name not in connection.headers:
        return
    container.ignored_fields.tell(_client(connection, caller), [f"header.{name}"])
    told = connection.scope.get(IN_SCOPE)
    connection.scope[IN_SCOPE] = name if told is None else f"{told}, {name}"


def _name(path: FieldPath, name: str) -> str:
    """Made safe for a header and a log: the last part is the client's own."""
    name = quote(name[:MAX_NAME] or '""', safe="", errors="replace").replace(".", "%2E")
    return ".".join((*path, name[:MAX_NAME]))


def _client(connection: HTTPConnection, caller: Caller) -> str:
    """The key's name, or the address of a caller without one."""
    if caller != Caller() or connection.client is None:
        return caller.name
    return f"{caller.name} at {connection.client.host}"
