"""One JSON object of a client: fields that we read, fields that ask for nothing, and others."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from llmserve.api.unsupported import DEFAULTS, Defaults, asks_for_nothing

UNSUPPORTED: Final = "unsupported_field"
"""The type of the error about a field that we know of and do not serve."""

Path = tuple[str | int, ...]


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

    def unknown(self) -> list[Path]:
        """Where there are fields that nobody knows, in this object and in those inside."""
        found: list[Path] = []
        self._find_unknown((), found)
        return found

    def _find_unknown(self, at: Path, found: list[Path]) -> None:
        if self.__pydantic_extra__:
            found.extend((*at, name) for name in self.__pydantic_extra__)
        for name, value in self.__dict__.items():
            if isinstance(value, Fields):
                value._find_unknown((*at, name), found)
            elif isinstance(value, list):
                for place, part in enumerate(value):
                    if isinstance(part, Fields):
                        part._find_unknown((*at, name, place), found)
