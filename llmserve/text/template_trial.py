"""Tries a chat template on plain conversations when its model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from llmserve.text.content_format import ContentFormat
from llmserve.text.taint import NO_MARK, Tainted, marks_of
from llmserve.text.turns import Turn

WORDS: Final = {
    "user": "brastiver",
    "system": "quillowen",
    "assistant": "mendalorn",
    "tool": "tavrickel",
}
"""What each role says: words that no template contains itself."""

CONVERSATIONS: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    "user": (("user",), ("system", "user")),
    "system": (("system", "user"),),
    "assistant": (("user", "assistant", "user"),),
    "tool": (("user", "assistant", "tool"),),
}
"""The conversations in which each role is tried; later ones are for templates that refuse the
first."""

FRAMED: Final = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("user",))


class Render(Protocol):
    """Applies a template; raises whatever the template raises."""

    def __call__(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of these turns, whose contents are in the formats that are being tried, and of
        tools as JSON-like definitions."""
        ...


@dataclass(frozen=True, slots=True)
class TemplateTrial:
    """The result of trying a template.

    Attributes:
        formats: the content format that the template takes, by role.
        error: what it raised in a conversation of user and assistant.
        lost: the roles whose words it leaves out in both formats, without an error.
        frame: what the template itself writes around turns, where that is known.
    """

    formats: Mapping[str, ContentFormat]
    error: Exception | None
    lost: tuple[str, ...]
    frame: str


def try_out(render: Render) -> TemplateTrial:
    """Find the formats that keep the words: strings if they do, as for most templates.

    If neither does, the format for which the template raises is used: an error is better than
    silence. System and tool messages may be refused like that, as many models have none.
    """
    formats = dict.fromkeys(WORDS, ContentFormat.STRING)
    error: Exception | None = None
    lost = []
    for role, conversations in CONVERSATIONS.items():
        raised: dict[ContentFormat, Exception] = {}
        kept: ContentFormat | None = None
        for conversation in conversations:
            kept = _kept(render, role, conversation, formats, raised)
            if kept is not None:
                break
            if role in ("user", "assistant"):
                error = error or next(iter(raised.values()), None)
        formats[role] = kept or next(iter(raised), formats["user"])
        if kept is None and not raised and role != "tool":
            lost.append(role)
    return TemplateTrial(formats, error, tuple(lost), _frame(render, formats))


def _kept(
    render: Render,
    role: str,
    conversation: Sequence[str],
    formats: Mapping[str, ContentFormat],
    raised: dict[ContentFormat, Exception],
) -> ContentFormat | None:
    """The first format in which the role's words are rendered; errors of others go to `raised`."""
    for wanted in ContentFormat:
        try:
            text = render(_turns(conversation, {**formats, role: wanted}))
        # A template is a program: it raises whatever it likes.
        except Exception as error:
            raised.setdefault(wanted, error)
            continue
        if _has_words(text, role):
            return wanted
    return None


def _turns(conversation: Sequence[str], formats: Mapping[str, ContentFormat]) -> list[Turn]:
    return [
        {"role": role, "content": formats[role].content(Tainted(WORDS[role]))}
        for role in conversation
    ]


def _has_words(text: str, role: str) -> bool:
    """Whether the role's words are rendered, and not as part of a printed list of parts."""
    word, folded = WORDS[role], text.casefold()
    return word in folded and not any(f"text{q}: {q}{word}" in folded for q in ("'", '"'))


def _frame(render: Render, formats: Mapping[str, ContentFormat]) -> str:
    for conversation in FRAMED:
        try:
            text = render(_turns(conversation, formats), add_generation_prompt=False)
        except Exception:  # noqa: S112 - the next one; errors have been noted
            continue
        return frame_of(text)
    return ""


def frame_of(text: str) -> str:
    """What a template itself wrote of a text; each character that a caller wrote is `\\0`."""
    pairs = zip(text, marks_of(text), strict=True)
    return "".join(str(letter) if mark == NO_MARK[0] else "\0" for letter, mark in pairs)
