"""Calls as Gemma 4 writes them: `<|tool_call>call:f{a:1,b:<|"|>x<|"|>}<tool_call|>`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import regex

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.json_text import decoded
from llmserve.text.output.lark import Lark, any_of, repeated
from llmserve.text.output.source import Marks, Source, Steps
from llmserve.text.output.tool_calls import ToolCalls, members_of, schema_of
from llmserve.text.output.typed import referred, types_of

QUOTE: Final = '<|"|>'

_BEGIN: Final = "<|tool_call>"
_END: Final = "<tool_call|>"
_ENDS: Final = Marks((_END,))
_HEAD: Final = regex.compile(r"[ \t\r\n]*+call:(?P<name>[\w.-]++)(?=\{)")
_TOKEN: Final = regex.compile(
    r'<\|"\|>(?P<text>.*?)<\|"\|>|(?P<json>"(?:[^"\\]|\\.)*+")|(?P<mark>[{}\[\],:])'
    r"|(?P<bare>[^{}\[\],:\s][^{}\[\],:]*+)|\s++",
    regex.DOTALL,
)
_SCALARS: Final = frozenset({"integer", "number", "boolean", "null"})
_DEPTH: Final = 5


@dataclass(frozen=True, slots=True)
class GemmaCalls:
    """Keys have no quotes, texts stand between quote tokens, without escapes: a text cannot contain
    that token. A call's arguments are passed on as a whole, when it is complete."""

    between: str | None = ""
    ends_reasoning: bool = False
    is_bare: bool = False
    triggers: tuple[str, ...] = (_BEGIN,)
    markers: tuple[str, ...] = (_BEGIN, _END, QUOTE)
    ends: tuple[str, ...] = (_END,)

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        head = yield from source.match(_HEAD)
        if head is None:
            return Outcome.MALFORMED
        calls.begin(head["name"])
        parts: list[str] = []
        mark = yield from source.until(_ENDS, parts.append)
        written = "".join(parts)
        arguments = _as_json(written)
        if arguments is None:
            calls.malformed("its arguments are no object")
        calls.arguments(written if arguments is None else arguments)
        return Outcome.CLOSED if mark else Outcome.UNCLOSED

    def write(self, calls: Sequence[ToolCall]) -> str:
        return "".join(
            f"{_BEGIN}call:{call.name}{_written(json.loads(call.arguments))}{_END}"
            for call in calls
        )

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        bodies = []
        for tool in tools:
            schema = schema_of(tool)
            arguments = _Values(lark, schema, is_strict=tool.is_strict).rule(schema, _DEPTH)
            named = lark.literal(f"call:{tool.name}")
            bodies.append(lark.rule("call", f"{named} {arguments} {lark.literal(_END)}"))
        return any_of(bodies)


class _Values:
    """The rules for the values of one tool's arguments: types, `enum`, `const`, members and items
    are enforced, within the first levels."""

    def __init__(self, lark: Lark, root: Mapping[str, Any], *, is_strict: bool) -> None:
        self._lark = lark
        self._root = root
        self._is_strict = is_strict

    def rule(self, of: Any, depth: int) -> str:
        of = referred(of, self._root)
        of = of if isinstance(of, dict) else {}
        values = [of["const"]] if "const" in of else of.get("enum")
        if values:
            return any_of([self._lark.literal(_written(value)) for value in values])
        types = types_of(of, self._root) or frozenset({"string"})
        if "string" in types:
            return self._string(of)
        if "object" in types and depth:
            return self._object(of, depth)
        if "array" in types and depth:
            item = self.rule(of.get("items"), depth - 1)
            least = of.get("minItems") or 0
            some = f'{item} ("," {item}){{{max(0, least - 1)},}}'
            return f'("[" {some} "]")' if least else f'("[" ({some})? "]")'
        if types <= _SCALARS:
            return self._lark.json({"type": sorted(types), **of}, is_strict=self._is_strict)
        return '"{}"' if "object" in types else '"[]"'

    def _string(self, of: Mapping[str, Any]) -> str:
        length = repeated(of.get("minLength") or 0, of.get("maxLength"))
        return f"({self._lark.literal(QUOTE)} {self._lark.text_until(QUOTE, length)})"

    def _object(self, of: Mapping[str, Any], depth: int) -> str:
        properties, required = members_of(of)
        pairs = {
            key: f"{json.dumps(key + ':')} {self.rule(properties[key], depth - 1)}"
            for key in sorted(properties)
        }
        return f'("{{" {self._lark.members(pairs, required, ",") if pairs else ""} "}}")'


def _as_json(written: str) -> str | None:
    """The JSON text of an object in Gemma's form; `None` if it is none."""
    out: list[str] = []
    end = 0
    for token in _TOKEN.finditer(written):
        if token.start() != end:
            return None
        end = token.end()
        if token["text"] is not None:
            out.append(json.dumps(token["text"], ensure_ascii=False))
        elif token["bare"] is not None:
            bare = token["bare"].strip()
            is_key = written[end : end + 1] == ":"
            is_value = not is_key and (bare == "null" or decoded(bare) is not None)
            out.append(bare if is_value else json.dumps(bare, ensure_ascii=False))
        else:
            out.append(token["json"] or token["mark"] or "")
    text = "".join(f"{part} " if part in (",", ":") else part for part in out)
    return text if end == len(written) and isinstance(decoded(text), dict) else None


def _written(value: Any) -> str:
    match value:
        case str():
            return QUOTE + value + QUOTE
        case dict():
            return "{" + ",".join(f"{k}:{_written(v)}" for k, v in sorted(value.items())) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)
