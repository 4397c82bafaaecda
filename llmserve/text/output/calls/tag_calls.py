"""Calls in tags: `<function=f><parameter=x>1</parameter></function>` and its kin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import regex

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.calls.region import end_of_region, pattern_of_end
from llmserve.text.output.lark import Lark, any_of, repeated
from llmserve.text.output.source import Marks, Source, Steps
from llmserve.text.output.tool_calls import ToolCalls, members_of, schema_of
from llmserve.text.output.typed import argument_json, referred, types_of

_SPACE: Final = r"[ \t\r\n]*+"
_KEY: Final = r'(?P<key>[^<>"\n]++)'
_LINE: Final = "\n"
_WORD: Final = r"""[^\s<>"]++"""


@dataclass(frozen=True)
class TagCalls:
    """`begin` `name_begin` f `name_end` (`key_begin` k `key_end` v `value_end`)* `call_end` `end`.

    Each parameter is passed on when it is complete. What is written between `key_end` and
    `value_end` is the value without one `value_space` on either side: a JSON value, or a text
    without quotes, as the tool's schema says; a text cannot contain `value_end`.

    Attributes:
        space: what is written after `begin`.
        also: a trigger that is read although `begin` is missing: `name_begin`.
    """

    begin: str
    end: str
    name_begin: str
    name_end: str
    key_begin: str
    key_end: str
    value_end: str
    call_end: str = ""
    space: str = ""
    value_space: str = ""
    also: tuple[str, ...] = ()
    between: str | None = "\n"
    ends_reasoning: bool = False
    is_bare: bool = False

    @property
    def triggers(self) -> tuple[str, ...]:
        return (self.begin, *self.also)

    @property
    def markers(self) -> tuple[str, ...]:
        tags = (self.begin, self.end, self.key_begin, *self.key_end.split("\n"), self.value_end)
        return tuple(tag for tag in tags if tag.startswith("<") and tag.endswith(">"))

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.end,)

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        is_first = True
        named = self._name if trigger == self.begin else self._rest_of_name
        while (name := (yield from source.match(named))) is not None:
            named = self._name
            outcome = yield from self._call(name["name"], source, calls)
            if outcome is not Outcome.CLOSED:
                return outcome
            source.record()
            is_first = False
            if not self.name_begin:
                break
        if is_first:
            return Outcome.MALFORMED
        source.forget()
        outcome = yield from end_of_region(source, pattern_of_end(self.end))
        return outcome if trigger == self.begin else Outcome.UNCLOSED

    def write(self, calls: Sequence[ToolCall]) -> str:
        regions = []
        for call in calls:
            arguments = json.loads(call.arguments)
            parameters = "".join(
                f"\n{self._key(key)}{_written(value)}{self.value_space}{self.value_end}"
                for key, value in arguments.items()
            )
            regions.append(f"{self.begin}{self._named(call.name)}{parameters}{self._closing}")
        return (self.between or "").join(regions)

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        bodies = []
        for tool in tools:
            parts = [lark.literal(self._named(tool.name)), *self._parameters(lark, tool)]
            bodies.append(lark.rule("call", " ".join((*parts, lark.literal(self._closing)))))
        return any_of(bodies)

    def _call(self, name: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        before = "{"
        schema = calls.schema(name)
        properties = schema.get("properties")
        while (key := (yield from source.match(self._keyed))) is not None:
            if before == "{":
                calls.begin(name)
            parts: list[str] = []
            mark = yield from source.until(self._value_end, parts.append)
            value = "".join(parts).removeprefix(self.value_space)
            of = properties.get(key["key"]) if isinstance(properties, dict) else None
            begun = f"{before}{json.dumps(key['key'], ensure_ascii=False)}: "
            if mark is None:
                value = _without_begun(value, self.value_space + self.value_end)
                is_text = types_of(of, schema) <= {"string"}
                cut = json.dumps(value, ensure_ascii=False)[:-1] if is_text else value
                calls.arguments(begun + cut)
                calls.malformed("its parameters are not complete")
                return Outcome.UNCLOSED
            value = value.removesuffix(self.value_space)
            calls.arguments(begun + argument_json(value, of, schema))
            before = ", "
        has_begun = before != "{"
        closed = yield from source.match(self._call_end)
        if closed is None:
            if not has_begun:
                return Outcome.MALFORMED
            calls.malformed("its end is missing")
            return Outcome.UNCLOSED
        if not has_begun:
            calls.begin(name)
        calls.arguments("}" if has_begun else "{}")
        return Outcome.CLOSED

    def _parameters(self, lark: Lark, tool: Tool) -> list[str]:
        schema = schema_of(tool)
        properties, required = members_of(schema)
        if not properties and schema.get("additionalProperties") is not False:
            before, after = self._key("\0").split("\0")
            key = f"{lark.literal(_LINE + before)} /[A-Za-z_][A-Za-z0-9_.-]*/"
            value = lark.text_until(self.value_space + self.value_end)
            return [f"({key} {lark.literal(after)} {value})*"]
        parts = []
        for key, of in properties.items():
            value = self._value(lark, referred(of, schema), schema, is_strict=tool.is_strict)
            part = f"{lark.literal(_LINE + self._key(key))} {value}"
            parts.append(part if key in required else f"({part})?")
        return parts

    def _value(self, lark: Lark, of: Any, root: Mapping[str, Any], *, is_strict: bool) -> str:
        """A rule's body for one value and its end. Of the keywords for texts only `enum`, `const`
        and those for the length are enforced."""
        of = of if isinstance(of, dict) else {}
        end = self.value_space + self.value_end
        types = types_of(of, root)
        values = [of["const"]] if "const" in of else of.get("enum")
        if values and "string" in types:
            return any_of([lark.literal(_written(value) + end) for value in values])
        if not types or "string" in types:
            least, most = of.get("minLength") or 0, of.get("maxLength")
            return lark.text_until(end, repeated(least, most))
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        return f"{lark.json({**of, **definitions}, is_strict=is_strict)} {lark.literal(end)}"

    def _named(self, name: str) -> str:
        return f"{self.space}{self.name_begin}{name}{self.name_end}"

    def _key(self, key: str) -> str:
        return f"{self.key_begin}{key}{self.key_end}{self.value_space}"

    @property
    def _closing(self) -> str:
        call_end = f"\n{self.call_end}" if self.call_end else ""
        return f"{call_end}\n{self.end}"

    @cached_property
    def _name(self) -> Any:
        return regex.compile(_SPACE + regex.escape(self.name_begin) + self._rest_of_name.pattern)

    @cached_property
    def _rest_of_name(self) -> Any:
        end = regex.escape(self.name_end) if self.name_end else r"(?=[^\w.-])"
        return regex.compile(f"(?P<name>{_WORD}){end}")

    @cached_property
    def _keyed(self) -> Any:
        end = _SPACE.join(map(regex.escape, self.key_end.split("\n")))
        return regex.compile(f"{_SPACE}{regex.escape(self.key_begin)}{_KEY}{end}")

    @cached_property
    def _call_end(self) -> Any:
        """Where no tag ends a call, the one that ends the region does."""
        end = regex.escape(self.call_end) if self.call_end else f"(?={regex.escape(self.end)})"
        return regex.compile(_SPACE + end)

    @cached_property
    def _value_end(self) -> Marks:
        return Marks((self.value_end,))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_begun(text: str, end: str) -> str:
    """The text without the beginning of its end."""
    begun = (end[:length] for length in range(len(end) - 1, 0, -1))
    return next((text.removesuffix(part) for part in begun if text.endswith(part)), text)
