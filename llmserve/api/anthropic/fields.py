"""What objects of Anthropic's clients share: their defaults, refusals by kind, marks for caches."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from llmserve.api.fields import NOT_SUPPORTED, REFUSED, Fields
from llmserve.api.other_input import is_other_input, refuse_other_input
from llmserve.api.unsupported import Defaults

DEFAULTS: Final[Defaults] = {
    "allowed_callers": (["direct"],),
    "caller": ({"type": "direct"},),
    "speed": ("standard",),
}
"""The documented defaults of fields that we do not serve."""


class AnthropicFields(Fields):
    """An object in this dialect."""

    defaults: ClassVar = DEFAULTS


class CacheControl(AnthropicFields):
    """Where a client would like its prompt to be cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Cacheable(AnthropicFields):
    """What may carry such a mark."""

    cache_control: CacheControl | None = Field(
        None, description="Changes nothing: prefixes are cached and found without it."
    )


class Refused(AnthropicFields):
    """An object whose `type` is none of those that are served: refused by that name."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, sent: Any) -> Any:
        if is_other_input(sent):
            refuse_other_input(sent["type"])
        raise PydanticCustomError(REFUSED, NOT_SUPPORTED, {"field": sent["type"]})


def kind_of(sent: Any) -> Any:
    """The `type` of an object, of which there are several kinds, before it is validated or after;
    `None` without one."""
    return sent.get("type") if isinstance(sent, dict) else getattr(sent, "type", None)
