"""Parts of messages that are no text: refused as what they are, as models are for text only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from llmserve.api.fields import NOT_TEXT, NOT_TEXT_WORDS, Fields

OTHER_INPUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("image", "image_embeds", "image_file", "image_pil", "image_url", "input_image"), "images"
    ),
    **dict.fromkeys(("audio", "audio_embeds", "audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("input_video", "video", "video_url"), "videos"),
    **dict.fromkeys(("container_upload", "document", "file", "input_file"), "files"),
}
"""What parts are, by their `type` in the dialects that have them."""


class OtherInput(Fields):
    """A part with an image, sound, video or file; a dialect's own is a kind of its text part."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, sent: Any) -> Any:
        refuse_other_input(sent["type"])


def is_other_input(sent: Any) -> bool:
    """Whether a part, as a client sent it, is of a kind that is no text."""
    kind = sent.get("type") if isinstance(sent, dict) else None
    return isinstance(kind, str) and kind in OTHER_INPUT


def refuse_other_input(kind: str) -> NoReturn:
    """
    Raises:
        PydanticCustomError: says what a part of this kind is.
    """
    raise PydanticCustomError(NOT_TEXT, NOT_TEXT_WORDS, {"what": OTHER_INPUT[kind]})
