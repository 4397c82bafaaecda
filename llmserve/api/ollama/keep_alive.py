"""Ollama's `keep_alive`: how long a model stays loaded after its last use."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field

from llmserve.api.fields import Fields
from llmserve.bootstrap import Container
from llmserve.domain import Caller, Scope
from llmserve.errors import ModelNotFound
from llmserve.registry.served import ServedModel

SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h)")
MAX_CHARACTERS: Final = 64


def _seconds(sent: Any) -> Any:
    """A number of seconds or Go's duration (`1h30m`); infinity where it is negative.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(sent, str) and len(sent) <= MAX_CHARACTERS:
        sent = _of_words(sent)
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        raise ValueError("it is a number of seconds, or a duration such as '5m' or '-1'")
    return float(sent) if sent >= 0 else math.inf


def _of_words(sent: str) -> float | None:
    sign, unsigned = (-1.0, sent[1:]) if sent.startswith("-") else (1.0, sent.removeprefix("+"))
    if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", unsigned):
        return sign * float(unsigned)
    parts = PART.findall(unsigned)
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        return None
    return sign * sum(float(number) * SECONDS[unit] for number, unit in parts)


KeepAlive = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(_seconds, json_schema_input_type=float | str),
]


class KeepAliveFields(Fields):
    """A model, and how long it stays."""

    model: str | None = Field(
        None, description="A served model, with or without `:latest`; the default one if absent."
    )
    keep_alive: KeepAlive | None = Field(
        None,
        description="How long a model on demand stays loaded after its last use; other models, "
        "and keys that are no operator's, are told that it is ignored.",
    )

    def ignoring_keep_alive(self) -> Self:
        """The same body, where `keep_alive` is a field that is told as ignored."""
        ignored = {**(self.__pydantic_extra__ or {}), "keep_alive": self.keep_alive}
        copy = self.model_copy(update={"keep_alive": None})
        copy.__pydantic_extra__ = ignored
        return copy


def kept_for(caller: Caller, name: str | None, container: Container) -> ServedModel | None:
    """The model that this caller may keep or let go of by a request: one on demand, of a server
    without keys, or by a key that may operate it. `None` where the wish has no effect."""
    if caller != Caller() and Scope.ADMIN not in caller.scopes:
        return None
    try:
        model = container.registry.answering(name)
    except ModelNotFound:
        return None  # the request will be refused
    return model if model.is_on_demand and not model.is_pinned else None
