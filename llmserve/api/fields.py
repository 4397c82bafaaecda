"""One JSON object of a client: fields that we read, fields that ask for nothing, and others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from llmserve.api.unsupported import DEFAULTS, Defaults, asks_for_nothing

UNSUPPORTED: Final = "unsupported_field"
"""The type of the error about a field that we know of and do not serve."""

FLAT: Final = (str, int, float, NoneType)
"""Told apart first: whether something is a model of pydantic's takes ten times as long."""

Path = tuple[str | int, ...]
Place = tuple[str, ...]
"""A path without the numbers in lists."""


class Unknown:
    """Fields that nobody knows, by name and the objects around, whichever of a list they are in.

    Only the first `most` are kept, and the rest counted: a body of megabytes has a hundred
    thousand, and naming each would hold up the event loop.

    Attributes:
        first: where the first of them is.
        more: how often fields occur that are not kept.
    """

    def __init__(self, most: int) -> None:
        self.first: Path | None = None
        self.more = 0
        self._room = most
        self._names: dict[Place, set[str]] = {}
        self._kept: list[tuple[Place, str]] = []

    def __iter__(self) -> Iterator[tuple[Place, str]]:
        """Place and name of each that is kept."""
        return iter(self._kept)

    def add(self, at: Path, place: Place, fields: Mapping[str, Any]) -> None:
        """Those of one object, at least one."""
        names = self._names.setdefault(place, set())
        if fields.keys() <= names:
            return
        if self.first is None:
            self.first = (*at, next(iter(fields)))
        if self._room:
            others = (name for name in fields if name not in names)
            for name in itertools.islice(others, self._room):
                names.add(name)
                self._kept.append((place, name))
                self._room -= 1
        if not self._room:
            self.more += len(fields) - sum(name in fields for name in names)


class Fields(BaseModel):
    """What a client sends, at any depth; null and absence mean the same.

    A field that asks for nothing is dropped, one of `unsupported` is an error that names it, and
    one that nobody knows is kept, to be told of (`unknown`).
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    unsupported: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Defaults] = DEFAULTS

    @model_validator(mode="before")
    @classmethod
    def _without_absent(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        if sent.keys() <= cls.__pydantic_fields__.keys() and None not in sent.values():
            return sent  # at once: a body of megabytes has a hundred thousand of these
        kept = {name: value for name, value in sent.items() if not cls._is_absent(name, value)}
        for name in kept:
            if name in cls.unsupported and name not in cls.model_fields:
                raise PydanticCustomError(UNSUPPORTED, "is not supported", {"field": name})
        return kept

    @classmethod
    def _is_absent(cls, name: str, value: Any) -> bool:
        field = cls.model_fields.get(name)
        if field is None:
            return asks_for_nothing(name, value, cls.defaults)
        return value is None and not field.is_required()

    def unknown(self, most: int) -> Unknown:
        """Fields that nobody knows, in this object and in those inside."""
        unknown = Unknown(most)
        self._find_unknown((), (), unknown)
        return unknown

    def _find_unknown(self, at: Path, place: Place, unknown: Unknown) -> None:
        if self.__pydantic_extra__:
            unknown.add(at, place, self.__pydantic_extra__)
        for name, value in self.__dict__.items():
            if isinstance(value, list):
                if not (value and isinstance(value[0], Fields)):
                    continue  # texts or token ids, perhaps a million
                inside = (*place, name)
                for number, part in enumerate(value):
                    part._find_unknown((*at, name, number), inside, unknown)
            elif not isinstance(value, FLAT) and isinstance(value, Fields):
                value._find_unknown((*at, name), (*place, name), unknown)
