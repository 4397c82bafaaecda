"""Calls as Python writes them: `[f(a=1), g(b="x")]`."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import regex

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.calls.form import Outcome
from llmserve.text.output.calls.region import end_of_region
from llmserve.text.output.lark import Lark, any_of, repeated
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.tool_calls import ToolCalls, members_of, schema_of
from llmserve.text.output.typed import types_of

_LIST: Final = regex.compile(r"[ \t\r\n]*+\[")
_END: Final = regex.compile(r"[ \t\r\n]*+\]")
_HEAD: Final = regex.compile(r"[ \t\r\n]*+,?[ \t\r\n]*+(?P<name>[A-Za-z_][\w.-]*+)\(")
_STRUCTURE: Final = regex.compile(r"""["'()\[\]{}]""")
_OF_TEXTS: Final = frozenset({"type", "title", "description", "minLength", "maxLength", "default"})
"""Keywords of a schema whose texts may stand in single quotes, too, as models prefer them."""

_CONSTANTS: Final = {"true": True, "false": False, "null": None}
"""As JSON writes them: models mix the two, and grammars write JSON inside a call."""


@dataclass(frozen=True, slots=True)
class PythonCalls:
    """A list of calls with keyword arguments. A call's arguments are passed on as a whole, when it
    is complete. An answer that begins with a list whose first name is a tool's is one, too.

    Attributes:
        around: delimiters that a model may write around the list, though nobody asked for them.
    """

    around: tuple[str, ...] = ("<|python_start|>", "<|python_end|>")
    between: str | None = None
    ends_reasoning: bool = False
    is_bare: bool = True

    @property
    def triggers(self) -> tuple[str, ...]:
        return self.around[:1]

    @property
    def markers(self) -> tuple[str, ...]:
        return self.around

    @property
    def ends(self) -> tuple[str, ...]:
        return self.around[1:]

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        if (yield from source.match(_LIST)) is None:
            return Outcome.MALFORMED
        is_first = True
        while (head := (yield from source.match(_HEAD))) is not None:
            name = head["name"]
            if is_first and not trigger and not calls.knows(name):
                return Outcome.MALFORMED
            calls.begin(name)
            written: list[str] = []
            is_whole = yield from _arguments(source, written)
            text = "".join(written)
            arguments = _as_json(text) if is_whole else None
            if arguments is None:
                calls.malformed("its arguments are no literals")
            calls.arguments(text if arguments is None else arguments)
            if not is_whole:
                return Outcome.UNCLOSED
            source.record()
            is_first = False
        if is_first:
            return Outcome.MALFORMED
        source.forget()
        outcome = yield from end_of_region(source, _END)
        return Outcome.UNCLOSED if trigger else outcome

    def write(self, calls: Sequence[ToolCall]) -> str:
        written = []
        for call in calls:
            arguments = json.loads(call.arguments)
            pairs = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            written.append(f"{call.name}({pairs})")
        return f"[{', '.join(written)}]"

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        body = any_of([lark.rule("call", _rule(lark, tool)) for tool in tools])
        more = f'(", " {body})*' if is_parallel else ""
        return f'"[" {body} {more} "]"'


def _rule(lark: Lark, tool: Tool) -> str:
    """A call's rule: the parameters in the schema's order; what else it allows is left out."""
    schema = schema_of(tool)
    properties, required = members_of(schema)
    pairs = {
        key: f"{json.dumps(key + '=')} {_value(lark, of, schema, is_strict=tool.is_strict)}"
        for key, of in properties.items()
        if key.isidentifier()
    }
    return f'{json.dumps(tool.name + "(")} {lark.members(pairs, required, ", ")} ")"'


def _value(lark: Lark, of: Any, root: dict[str, Any], *, is_strict: bool) -> str:
    types = types_of(of, root)
    if types == {"boolean"} and not {"const", "enum"} & set(of):
        return '("True" | "False")'
    if types == {"null"}:
        return '"None"'
    whole: dict[str, Any] = dict(of) if isinstance(of, dict) else {}
    whole |= {key: root[key] for key in ("$defs", "definitions") if key in root}
    as_json = lark.json(whole, is_strict=is_strict)
    if types != {"string"} or not set(of) <= _OF_TEXTS:
        return as_json
    length = repeated(of.get("minLength") or 0, of.get("maxLength"))
    single = lark.rule("quoted", f"/'[^'\\\\\\n]{length}'/")
    return f"({as_json} | {single})"


def _arguments(source: Source, written: list[str]) -> Steps[bool]:
    """Take the text up to the bracket that closes the call, which is taken but not written."""
    depth, quote = 1, ""
    is_escaped = False
    while True:
        text, start = source.window()
        i = min(start + is_escaped, len(text))
        is_escaped = is_escaped and start == len(text)
        while i < len(text) and depth:
            if quote:
                found = _in_string(quote).search(text, i)
                i = found.end() if found else len(text)
                if found and found.group() == "\\":
                    is_escaped = i == len(text)
                    i = min(i + 1, len(text))
                elif found:
                    quote = ""
                continue
            found = _STRUCTURE.search(text, i)
            i = found.end() if found else len(text)
            if found and found.group() in "\"'":
                quote = found.group()
            elif found:
                depth += 1 if found.group() in "([{" else -1
        taken = source.take(i)
        written.append(taken if depth else taken[:-1])
        if not depth or source.is_over:
            return not depth
        yield


def _in_string(quote: str) -> Any:
    return _DOUBLE if quote == '"' else _SINGLE


_DOUBLE: Final = regex.compile(r'["\\]')
_SINGLE: Final = regex.compile(r"['\\]")


def _as_json(written: str) -> str | None:
    """The JSON text of keyword arguments; `None` if they are not, or not all literals."""
    try:
        with warnings.catch_warnings(action="ignore"):  # "\\d" is no escape, and stays as it is
            call = ast.parse(f"f({written})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            return None
        values = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        return _joined_surrogates(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {
                _literal(key): _literal(value)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
    return ast.literal_eval(node)


def _joined_surrogates(text: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes, which Python reads as two.

    Raises:
        UnicodeError: one half is missing.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16")
