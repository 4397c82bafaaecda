"""Calls as JSON objects: `{"name": "f", "arguments": {…}}`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import regex

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.calls.region import end_of_region, pattern_of_end
from llmserve.text.output.json_text import (
    SPACE,
    STRING,
    arguments_value,
    decoded,
    json_value,
)
from llmserve.text.output.lark import Lark, any_of
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.tool_calls import ToolCalls, schema_of

_OPEN: Final = regex.compile(SPACE + r"\{", regex.DOTALL)
_KEY: Final = regex.compile(SPACE + ",?" + SPACE + f"(?P<key>{STRING})" + SPACE + ":", regex.DOTALL)
_NAME: Final = regex.compile(SPACE + f"(?P<name>{STRING})", regex.DOTALL)
_CLOSE: Final = regex.compile(SPACE + ",?" + SPACE + r"\}")
_LIST: Final = regex.compile(SPACE + r"\[")
_NEXT: Final = regex.compile(SPACE + r"[,;]?" + SPACE + r"(?=\{)")
_TOLERATED: Final = ("type", "id")
_ARGUMENTS: Final = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class ObjectCalls:
    """One object between two delimiters, or a list of them.

    Attributes:
        begin: the delimiter before; empty if there is none, and an answer that begins with `{` and
            the name of a tool is a call.
        end: the delimiter after; empty where the end of the answer is the end.
        space: what is written between the delimiters and the object.
        in_list: whether a JSON list of objects stands between the delimiters.
        key: the key of the arguments, as it is written; either one is read.
        between: what is written between two calls; `None` where an answer has only one.
        also: delimiters that may begin a call although none is written.
    """

    begin: str = "<tool_call>"
    end: str = "</tool_call>"
    space: str = "\n"
    in_list: bool = False
    key: str = "arguments"
    between: str | None = "\n"
    also: tuple[str, ...] = ()
    ends_reasoning: bool = False

    @property
    def triggers(self) -> tuple[str, ...]:
        return tuple(t for t in (self.begin, *self.also) if t)

    @property
    def markers(self) -> tuple[str, ...]:
        return (*self.triggers, *self.ends)

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.end,) if self.end else ()

    @property
    def is_bare(self) -> bool:
        return not self.begin

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        count = calls.count
        yield from source.match(_LIST)
        while True:
            is_whole = yield from self._object(source, calls, is_bare=not trigger)
            if not is_whole:
                return Outcome.MALFORMED if calls.count == count else Outcome.UNCLOSED
            count = calls.count
            source.record()
            if (yield from source.match(_NEXT)) is None:
                break
        source.forget()
        return (yield from end_of_region(source, pattern_of_end(self.end)))

    def write(self, calls: Sequence[ToolCall]) -> str:
        objects = [
            f'{{"name": {json.dumps(call.name)}, "{self.key}": {call.arguments}}}' for call in calls
        ]
        before, after = self.begin + self.space, self.space + self.end
        if self.in_list:
            return f"{before}[{', '.join(objects)}]{after}"
        return (self.between or "").join(f"{before}{written}{after}" for written in objects)

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        objects = [
            lark.rule(
                "call",
                lark.literal(f'{{"name": {json.dumps(tool.name)}, "{self.key}": ')
                + f" {lark.json(schema_of(tool), is_strict=tool.is_strict)} "
                + lark.literal("}"),
            )
            for tool in tools
        ]
        body = any_of(objects)
        if self.in_list:
            more = f' (", " {body})*' if is_parallel else ""
            body = f'"[" {body}{more} "]"'
        return " ".join(
            part
            for part in (lark.literal(self.space), body, lark.literal(self.space + self.end))
            if part
        )

    def _object(self, source: Source, calls: ToolCalls, *, is_bare: bool) -> Steps[bool]:
        """Whether there is an object that is a call, and it is whole."""
        if (yield from source.match(_OPEN)) is None:
            return False
        name: str | None = None
        early: list[str] = []  # arguments that came before the name
        is_begun = is_whole = False
        while (key := (yield from source.match(_KEY))) is not None:
            match decoded(key["key"]):
                case "name" if name is None:
                    written = yield from source.match(_NAME)
                    name = written and decoded(written["name"])
                    if not name or (is_bare and not calls.knows(name)):
                        return False
                    if early:
                        calls.begin(name)
                        is_begun = True
                        calls.arguments("".join(early))
                case word if (
                    word in _ARGUMENTS and not is_begun and not early and (name or not is_bare)
                ):
                    if name is not None:
                        calls.begin(name)
                        is_begun = True
                    emit = early.append if name is None else calls.arguments
                    is_whole = yield from arguments_value(source, emit)
                    if not is_whole:
                        if is_begun:
                            calls.malformed("its arguments are not complete")
                        return False
                case word if is_bare and not is_begun and word not in _TOLERATED:
                    return False  # an answer in JSON, which must not be held back
                case _:
                    if not (yield from json_value(source, lambda _: None)):
                        return is_whole
        is_closed = (yield from source.match(_CLOSE)) is not None
        if name is not None and not is_begun and is_closed:
            calls.begin(name)
            calls.arguments("{}")
            return True
        return is_whole and is_begun
