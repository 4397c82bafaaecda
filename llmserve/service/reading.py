"""A request that wants something of a model's tokenizer, and no tokens generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from llmserve.text.tokenizer import Tokenizer

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Reading(Generic[T_co]):
    """Attributes:
    id: the request id in logs.
    model: a served name or alias; `None` is the default model.
    work: what is done, on a thread of the model's.
    size: characters that it reads, or tokens.
    timeout_seconds: from now until it must be done.
    """

    id: str
    model: str | None
    work: Callable[[Tokenizer], T_co]
    size: int
    timeout_seconds: float | None = None
