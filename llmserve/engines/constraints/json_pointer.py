"""JSON pointers within one document, as URI fragments (RFC 6901)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote


def child(pointer: str, *parts: str | int) -> str:
    """The pointer of what lies below."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "/".join((pointer, *escaped))


def resolve(document: Any, fragment: str) -> tuple[str, Any]:
    """What a reference such as `#/$defs/a` names, and its pointer in our own spelling.

    Raises:
        LookupError: there is nothing.
    """
    pointer, found = "#", document
    for part in unquote(fragment.removeprefix("#")).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise LookupError(fragment)
        pointer = child(pointer, name)
    return pointer, found
