"""The forms in which a chat template takes the turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from llmserve.text.content_format import ContentFormat


class NoContent(StrEnum):
    """What an assistant's turn has for a content when it only calls tools."""

    ABSENT = "absent"
    EMPTY = "empty"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a template takes an assistant's calls.

    Attributes:
        takes_text: arguments as JSON text; otherwise as objects.
        no_content: the content of a turn that only calls.
        has_short_ids: ids must have nine letters and digits, as Mistral's.
        wraps_text: arguments that are no object must be put into one.
        splits: a turn with content loses its calls, which need a turn of their own.
    """

    takes_text: bool = False
    no_content: NoContent = NoContent.ABSENT
    has_short_ids: bool = False
    wraps_text: bool = False
    splits: bool = False


@dataclass(frozen=True, slots=True)
class TurnForms:
    """All that a trial finds out about a template's turns.

    Attributes:
        formats: of contents, by role.
        shows_tools: whether it shows the tools to the model; otherwise we do.
        takes_system: whether it takes a system message.
        knows_developer: whether `developer` is a role of its own; otherwise it is the system.
        calls: `None` if it shows no calls, which are then part of the content.
        takes_results: whether it takes results as messages of a `tool`; otherwise users say them.
        reasoning_key: under which it reads an assistant's reasoning.
    """

    formats: Mapping[str, ContentFormat]
    shows_tools: bool = False
    takes_system: bool = True
    knows_developer: bool = False
    calls: CallForm | None = None
    takes_results: bool = False
    reasoning_key: str = "reasoning_content"
