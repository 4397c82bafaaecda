"""One JSON object of a client: fields that we read, fields that ask for nothing, and others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from llmserve.api.unsupported import (
    DEFAULTS,
    FIELDS_OF_OTHER_INPUT,
    Defaults,
    asks_for_nothing,
)

REFUSED: Final = "refused_field"
"""The type of pydantic's error about a field inside the object; `ctx["field"]` is its name."""

NOT_TEXT: Final = "not_text"
"""The type of pydantic's error about an image or the like; `ctx["what"]` says what it is, and
`ctx["field"]`, if it is there, the field inside the object."""

NOT_TEXT_WORDS: Final = "{what} cannot be read: models are served for text only"
NOT_SUPPORTED: Final = "is not supported by this server; leave it out"
NOT_A_FIELD: Final = "is not a field of this request; leave it out"

FLAT: Final = (str, int, float, NoneType)
"""Checked first: finding out whether a value is a pydantic model takes ten times as long."""

Location = tuple[str | int, ...]
"""Where something is in a body: names of fields, and indexes in lists."""

FieldPath = tuple[str, ...]
"""A location without the indexes."""


class UnknownFields:
    """Fields that nobody knows, by name and the objects around them; list indexes do not count.

    Only the first `most` are kept, and the rest counted: a body of megabytes has a hundred
    thousand, and naming each would hold up the event loop.

    Attributes:
        first: where the first of them is.
        more: how often fields occur that are not kept.
    """

    def __init__(self, most: int) -> None:
        self.first: Location | None = None
        self.more = 0
        self._room = most
        self._names: dict[FieldPath, set[str]] = {}
        self._kept: list[tuple[FieldPath, str]] = []

    def __iter__(self) -> Iterator[tuple[FieldPath, str]]:
        """The object's path and the field's name, of each that is kept."""
        return iter(self._kept)

    def add(self, at: Location, path: FieldPath, fields: Mapping[str, Any]) -> None:
        """The unknown fields of one object, at least one."""
        names = self._names.setdefault(path, set())
        if fields.keys() <= names:
            return
        if self.first is None:
            self.first = (*at, next(iter(fields)))
        if self._room:
            others = (name for name in fields if name not in names)
            for name in itertools.islice(others, self._room):
                names.add(name)
                self._kept.append((path, name))
                self._room -= 1
        if not self._room:
            self.more += len(fields) - sum(name in fields for name in names)


class Fields(BaseModel):
    """What a client sends, at any depth; null and absence mean the same. So do false and anything
    empty in the fields of `may_be_empty`, as clients of many servers send them.

    A field that asks for nothing is dropped. One of `unsupported` or `served_elsewhere` is an
    error that names it. One that nobody knows is kept, so that the client can be told (`unknown`).
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    unsupported: ClassVar[frozenset[str]] = frozenset()
    served_elsewhere: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Defaults] = DEFAULTS
    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_absent(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        is_known = sent.keys() <= cls.on_the_wire().keys() and None not in sent.values()
        if is_known and cls.may_be_empty.isdisjoint(sent):
            return sent  # at once: a body of megabytes has a hundred thousand of these
        kept = {name: value for name, value in sent.items() if not cls._is_absent(name, value)}
        for name in kept:
            cls._refuse_unserved(name)
        return kept

    @classmethod
    @cache
    def on_the_wire(cls) -> Mapping[str, FieldInfo]:
        """The fields by the names that clients know."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def _is_absent(cls, name: str, value: Any) -> bool:
        field = cls.on_the_wire().get(name)
        if field is None:
            return asks_for_nothing(name, value, cls.defaults)
        if name in cls.may_be_empty:
            return asks_for_nothing(name, value, {})
        return value is None and not field.is_required()

    @classmethod
    def _refuse_unserved(cls, name: str) -> None:
        if name in cls.on_the_wire():
            return
        if name in cls.unsupported and name in FIELDS_OF_OTHER_INPUT:
            what = {"what": FIELDS_OF_OTHER_INPUT[name], "field": name}
            raise PydanticCustomError(NOT_TEXT, NOT_TEXT_WORDS, what)
        if name in cls.unsupported:
            raise PydanticCustomError(REFUSED, NOT_SUPPORTED, {"field": name})
        if name in cls.served_elsewhere:
            raise PydanticCustomError(REFUSED, NOT_A_FIELD, {"field": name})

    def unknown(self, most: int) -> UnknownFields:
        """Fields that nobody knows, in this object and in those inside."""
        unknown = UnknownFields(most)
        self._find_unknown((), (), unknown)
        return unknown

    def _find_unknown(self, at: Location, path: FieldPath, unknown: UnknownFields) -> None:
        if self.__pydantic_extra__:
            unknown.add(at, path, self.__pydantic_extra__)
        for name, value in self.__dict__.items():
            if value is None:
                continue
            if isinstance(value, list):
                if not (value and isinstance(value[0], Fields)):
                    continue  # texts or token ids, perhaps a million
                inside = (*path, name)
                for number, part in enumerate(value):
                    part._find_unknown((*at, name, number), inside, unknown)
            elif not isinstance(value, FLAT) and isinstance(value, Fields):
                value._find_unknown((*at, name), (*path, name), unknown)
