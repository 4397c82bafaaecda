"""Fields of a message that a newer client knows and this server does not."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet


def unknown_fields(message: Message, most: int) -> list[str]:
    """At most so many of them, by the way to them and their number: `options.sampling.#99`."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() == message.ByteSize():
        return []  # at once, as nearly always: a message of megabytes has a hundred thousand inside
    found: dict[str, None] = {}
    for field in _found(message, ""):
        found[field] = None
        if len(found) == most:
            break
    return list(found)


def _found(message: Message, path: str) -> Iterator[str]:
    unknown = UnknownFieldSet(message)
    for number in range(len(unknown)):
        yield f"{path}#{unknown[number].field_number}"
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inside in value if field.is_repeated else (value,):
            yield from _found(inside, f"{path}{field.name}.")
