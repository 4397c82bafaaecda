"""Calls with the name before and a JSON object after it, each at its place between delimiters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.calls.region import end_of_region, pattern_of_end
from llmserve.text.output.json_text import arguments_value
from llmserve.text.output.lark import Lark, any_of
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.tool_calls import ToolCalls, schema_of


@dataclass(frozen=True)
class HeaderCalls:
    """A region of calls: `begin` (`call_begin` head arguments `call_end`)* `end`.

    Attributes:
        begin, end: delimiters around all calls; empty where there are none.
        call_begin, call_end: those around each.
        head: how a name is written, `{name}` in its place and `{index}` where calls are numbered.
        tail: what follows the arguments before `call_end`.
        id_format: the id that the model writes along with the name; `None` if it writes none.
        separator: what is written between two calls.
        extra: a pattern for what may follow the name although it is not written.
    """

    begin: str
    end: str
    call_begin: str
    call_end: str
    head: str
    tail: str = ""
    id_format: str | None = None
    separator: str = ""
    extra: str = ""
    special: tuple[str, ...] = ()
    ends_reasoning: bool = True
    is_bare: bool = False

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.begin or self.call_begin,)

    @property
    def markers(self) -> tuple[str, ...]:
        named = (self.begin, self.call_begin, self.call_end, self.end, *self.special)
        return tuple(marker for marker in named if marker)

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.end,) if self.end else ()

    @property
    def between(self) -> str | None:
        return None if self.begin else self.separator

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        is_first = True
        while True:
            if (self.begin or not is_first) and (yield from source.match(self._call_begin)) is None:
                break
            head = yield from source.match(self._head)
            if head is None:
                return Outcome.MALFORMED
            index = head.groupdict().get("index")
            own_id = self.id_format and self.id_format.format(name=head["name"], index=index)
            calls.begin(head["name"], own_id)
            if not (yield from arguments_value(source, calls.arguments)):
                calls.malformed("its arguments are not complete")
                return Outcome.UNCLOSED
            if (yield from end_of_region(source, self._call_end)) is Outcome.UNCLOSED:
                return Outcome.UNCLOSED
            source.record()
            is_first = False
        if is_first:
            return Outcome.MALFORMED
        source.forget()
        return (yield from end_of_region(source, pattern_of_end(self.end)))

    def write(self, calls: Sequence[ToolCall]) -> str:
        written = [
            self.call_begin
            + self.head.format(name=call.name, index=index)
            + call.arguments
            + self.tail
            + self.call_end
            for index, call in enumerate(calls)
        ]
        return self.begin + self.separator.join(written) + self.end

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        bodies = []
        for tool in tools:
            before, *after = self.head.format(name=tool.name, index="\0").split("\0")
            index = " /[0-9]{1,3}/ " if after else ""
            schema = lark.json(schema_of(tool), is_strict=tool.is_strict)
            literals = (
                lark.literal(before) + index + lark.literal("".join(after)),
                schema,
                lark.literal(self.tail + self.call_end),
            )
            bodies.append(lark.rule("call", " ".join(filter(None, literals))))
        body = any_of(bodies)
        if not self.begin:
            return body
        call = f"{lark.literal(self.call_begin)} {body}"
        more = f"({lark.literal(self.separator)} {call})*" if is_parallel else ""
        return f"{call} {more} {lark.literal(self.end)}"

    @cached_property
    def _call_begin(self) -> Any:
        return regex.compile(r"[ \t\r\n]*+" + regex.escape(self.call_begin))

    @cached_property
    def _head(self) -> Any:
        """Names have none of the characters that delimiters are made of."""
        written = self.head.format(name="\0", index="\1")
        spaced = r"[ \t\r\n]*+".join(map(regex.escape, ("", *written.split("\n"))))
        name = r"(?P<name>[^\s<>\[\]{}|:]++)" + self.extra
        return regex.compile(spaced.replace("\0", name).replace("\1", r"(?P<index>\d++)"))

    @cached_property
    def _call_end(self) -> Any:
        return pattern_of_end(*filter(None, (self.tail.strip(), self.call_end)))
