"""Tries a chat template on tools, calls, results and reasoning when its model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

from llmserve.domain import Conversation, Message, ToolCall
from llmserve.text.content_format import ContentFormat
from llmserve.text.taint import Tainted, tainted
from llmserve.text.template_trial import WORDS, Render
from llmserve.text.turn_forms import CallForm, NoContent, TurnForms
from llmserve.text.turns import Turn, Turns

TOOL_NAME: Final = "brundelwick"
TOOL: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "Finds a quormelast.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "Where it is."}},
            "required": ["place"],
        },
    },
}
NAME, KEY, VALUE, REASON = "ostravelle", "drelvoss", "parquento", "gristamere"
"""A call's function, argument and value, and what an assistant thinks: words of no template."""
NONSENSE: Final = "grelkindor"
"""A role that no template knows."""

CALL: Final = ToolCall("call_brimstanel0dwick", NAME, json.dumps({KEY: VALUE}))
ASKED: Final = Message("user", WORDS["user"])
SYSTEM: Final = Message("system", WORDS["system"])
CALLS: Final = Message("assistant", "", tool_calls=(CALL,))
RESULT: Final = Message("tool", WORDS["tool"], tool_call_id=CALL.id)
ANSWERED: Final = Message("assistant", WORDS["assistant"])

HISTORIES: Final = ((ASKED, CALLS, RESULT), (ASKED, CALLS))
"""In which calls are tried; the second is for templates that have no results."""
REASONED: Final = (
    (ASKED, replace(ANSWERED, reasoning=REASON)),
    (ASKED, replace(CALLS, reasoning=REASON), RESULT),
    (ASKED, replace(ANSWERED, reasoning=REASON), ASKED),
)
FRAMED: Final = ((SYSTEM, ASKED, CALLS, RESULT, ANSWERED, ASKED), (ASKED, CALLS, RESULT))
"""Where a template shows what it writes around tools, calls and results."""
REASONING_KEYS: Final = ("reasoning_content", "thinking", "reasoning")
"""The first is what most templates read."""


def try_turns(render: Render, formats: Mapping[str, ContentFormat]) -> TurnForms:
    """Find the forms in which nothing of a conversation is lost; `formats` are those of contents.

    Objects are preferred to JSON text for arguments, an absent content to an empty one, both as
    transformers has them.
    """
    return _Trial(render, formats).forms()


class _Trial:
    """The trial of one template."""

    def __init__(self, render: Render, formats: Mapping[str, ContentFormat]) -> None:
        self._render = render
        self._formats = formats
        self._tools: list[Any] | None = None

    def forms(self) -> TurnForms:
        takes_system = WORDS["system"] in self._text_of(self._turns("system", "user"))
        self._tools = [tainted(TOOL)]
        shows_tools = self._shows_tools(takes_system)
        if not shows_tools:
            self._tools = None
        forms = TurnForms(
            self._formats,
            shows_tools=shows_tools,
            takes_system=takes_system,
            knows_developer=self._knows("developer", before=(), after=("user",)),
            takes_results=True,
        )
        calls = self._call_form(forms) if shows_tools else None
        forms = self._with_results(replace(forms, calls=calls))
        return replace(forms, reasoning_key=self._reasoning_key(forms))

    def _shows_tools(self, takes_system: bool) -> bool:
        asked = [("user",), ("system", "user")] if takes_system else [("user",)]
        return all(TOOL_NAME in self._text_of(self._turns(*roles)) for roles in asked)

    def _call_form(self, forms: TurnForms) -> CallForm | None:
        found = next(self._call_forms(forms), None)
        if found is None or found.takes_text:
            return found and self._with_splits(forms, found)
        unreadable = replace(CALLS, tool_calls=(replace(CALL, arguments=VALUE),))
        texts = self._texts(replace(forms, calls=found), _with(unreadable))
        found = replace(found, wraps_text=not any(VALUE in text for text in texts))
        return self._with_splits(forms, found)

    def _call_forms(self, forms: TurnForms) -> Iterator[CallForm]:
        for history in HISTORIES:
            for has_short_ids, takes_text, no_content in product(
                (False, True), (False, True), NoContent
            ):
                form = CallForm(takes_text, no_content, has_short_ids)
                text = self._text(replace(forms, calls=form), history)
                if _has_call(text):
                    yield form

    def _with_splits(self, forms: TurnForms, form: CallForm) -> CallForm:
        """With calls in a turn of their own if they are lost beside a content and not there."""
        split = replace(form, splits=True)
        histories = _with(replace(CALLS, content=WORDS["assistant"]))
        together, apart = (
            any(map(_has_call, self._texts(replace(forms, calls=calls), histories)))
            for calls in (form, split)
        )
        return split if apart and not together else form

    def _with_results(self, forms: TurnForms) -> TurnForms:
        """With the format of results, or none.

        Templates that write whatever role there is know of no results, unless they show tools.
        """
        if not forms.shows_tools:
            knows = self._knows("tool", before=("user", "assistant"), after=())
            return replace(forms, takes_results=knows)
        for content_format in dict.fromkeys((self._formats["tool"], *ContentFormat)):
            tried = replace(forms, formats={**self._formats, "tool": content_format})
            if WORDS["tool"] in self._text(tried, HISTORIES[0]):
                return tried
        return replace(forms, takes_results=False)

    def _knows(self, role: str, *, before: Sequence[str], after: Sequence[str]) -> bool:
        """Whether a role's words are shown, and otherwise than those of any other role."""
        word = WORDS.get(role, REASON)
        texts = []
        for named in (role, NONSENSE):
            content = self._formats.get(role, self._formats["system"]).content(Tainted(word))
            turn = {"role": named, "content": content}
            texts.append(self._text_of([*self._turns(*before), turn, *self._turns(*after)]))
        known, unknown = texts
        return word in known and unknown.replace(NONSENSE, role) != known

    def _reasoning_key(self, forms: TurnForms) -> str:
        for key, history in product(REASONING_KEYS, REASONED):
            turns = Turns(Conversation(history), forms, ()).turns
            for turn in turns:
                if turn.pop("reasoning_content", None):
                    turn[key] = Tainted(REASON)
            if REASON in self._text_of(turns):
                return key
        return REASONING_KEYS[0]

    def _turns(self, *roles: str) -> list[Turn]:
        return [
            {"role": role, "content": self._formats[role].content(Tainted(WORDS[role]))}
            for role in roles
        ]

    def _texts(self, forms: TurnForms, histories: Iterable[Sequence[Message]]) -> Iterator[str]:
        return (self._text(forms, history) for history in histories)

    def _text(self, forms: TurnForms, history: Sequence[Message]) -> str:
        return self._text_of(Turns(Conversation(tuple(history)), forms, ()).turns)

    def _text_of(self, turns: Sequence[Turn]) -> str:
        """What is rendered, in lower case; nothing if the template raises."""
        try:
            return self._render(turns, tools=self._tools).casefold()
        # A template is a program: it raises whatever it likes.
        except Exception:
            return ""


def _with(calls: Message) -> list[tuple[Message, ...]]:
    return [tuple(calls if m is CALLS else m for m in history) for history in HISTORIES]


def _has_call(text: str) -> bool:
    """Whether a call is shown, its arguments neither as Python prints them nor quoted as text."""
    if not all(word in text for word in (NAME, KEY, VALUE)):
        return False
    return f"'{KEY}':" not in text and f'\\"{KEY}' not in text
