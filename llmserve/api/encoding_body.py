"""A body that asks for numbers instead of text, in whichever dialect."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Final, cast

from pydantic import Discriminator, Field, Tag

from llmserve.api.fields import Fields
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, TokenId
from llmserve.domain import EncodingInput, EncodingRequest, Truncation

MAX_INPUTS: Final = 2048
"""OpenAI's bound, which others share here."""
MAX_DIMENSIONS: Final = 65_536

# fail_fast: a body of megabytes would otherwise have a million errors, one for each item.
Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _kind(inputs: Any) -> str:
    if not isinstance(inputs, list):
        return "str"
    match inputs[:1]:
        case [int()]:
            return "list[int]"
        case [list()]:
            return "list[list[int]]"
    return "list[str]"


# By its first item's kind: an error in a token id would otherwise be reported as one in a text.
Inputs = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[Texts, Tag("list[str]")]
    | Annotated[TokenIds, Tag("list[int]")]
    | Annotated[
        list[TokenIds],
        Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True),
        Tag("list[list[int]]"),
    ],
    Discriminator(_kind),
]
"""A text, several, the ids of a text's tokens, or of several."""

Dimensions = Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS_LIMIT)]


class EncodingBody(Fields):
    """Each dialect derives its bodies from this one, and each body makes its own request."""

    @abstractmethod
    def encoding(self, request_id: str, timeout_seconds: float | None) -> EncodingRequest:
        """The request; `timeout_seconds` comes with the connection, and a shorter one in the body
        takes precedence."""


def inputs_of(
    sent: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
) -> tuple[EncodingInput, ...]:
    """Each text, or each text's tokens, as the service takes them."""
    if isinstance(sent, str):
        return (sent,)
    if isinstance(sent[0], int):
        return (tuple(cast("Sequence[int]", sent)),)
    several = cast("Sequence[str | Sequence[int]]", sent)
    return tuple(one if isinstance(one, str) else tuple(one) for one in several)


def truncation(*, is_wanted: bool, keeps_end: bool) -> Truncation:
    """What becomes of an input that is too long."""
    if not is_wanted:
        return Truncation.REFUSE
    return Truncation.KEEP_END if keeps_end else Truncation.KEEP_START
