"""Syntaxes in the form of transformers' `response_template`, read by its `ResponseParser`."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import regex
from loguru import logger
from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.content_parsers import process_field
from transformers.utils.chat_parsing.response_templates import load_response_template

from llmserve.domain import Tool, ToolChoice, ToolMode
from llmserve.errors import ConfigurationError, InvalidRequest
from llmserve.text.output.lark import Lark
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.thinking import Thinking
from llmserve.text.output.tool_calls import NewId, ToolCalls, openai_ids
from llmserve.text.output.trimmed import Trimmed
from llmserve.text.output.typed import argument_json

REASONING: Final = ("reasoning_content", "thinking", "reasoning")
CALLS: Final = "tool_calls"
RENEWED_AFTER: Final = 50_000
"""Characters."""


class TemplateSyntax:
    """Reasoning and text are passed on as they come, a call when it is complete.

    Calls cannot be forced: a template says how to read them, not how to write them. What stands in
    fields of other names is text. A malformed call is text, too, with its delimiters where they are
    literals. Immutable.
    """

    name: Final = "response_template"
    covers_reasoning: Final = False

    def __init__(self, template: Mapping[str, Any], origin: str) -> None:
        """`origin` says where the template is from.

        Raises:
            ConfigurationError: it is not a valid template.
        """
        try:
            self._template = load_response_template(dict(template))
            self._with_calls = load_response_template(_lenient(template, CALLS))
            self._without = load_response_template(_without_calls(template))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ConfigurationError(
                f"{origin} is not a response_template that transformers can read: {error}"
            ) from error
        self._fields: Mapping[str, Mapping[str, Any]] = template["fields"]

    @cached_property
    def thinking(self) -> Thinking | None:
        """Known where both delimiters are literals."""
        for name in REASONING:
            field = self._fields.get(name, {})
            if isinstance(field.get("open"), str) and isinstance(field.get("close"), str):
                return Thinking(field["open"].strip(), field["close"].strip())
        return None

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Literals and patterns: a token that is part of one is a delimiter."""
        found: list[str] = []
        for field in self._fields.values():
            for key in ("open", "close", "open_pattern", "close_pattern"):
                value = field.get(key, ())
                found += [value] if isinstance(value, str) else value
            found.append(json.dumps(field.get("content_args", {}), ensure_ascii=False))
        plain = [marker.replace("\\", "") for marker in found]
        return tuple(dict.fromkeys((*found, *plain)))

    def starts_in_reasoning(self, opening: str) -> bool:
        reader = self.reader(Source(), Pieces(), None, opening)
        return reader.is_thinking

    def new_ids(self, source: random.Random) -> NewId:
        return openai_ids(source)

    def reader(
        self, source: Source, pieces: Pieces, calls: ToolCalls | None, opening: str
    ) -> TemplateReader:
        parser = self.new_parser(opening, reads_calls=calls is not None)
        return TemplateReader(self, parser, source, pieces, calls)

    def new_parser(self, opening: str, *, reads_calls: bool) -> Any:
        """A parser that has read this prompt."""
        template = self._with_calls if reads_calls else self._without
        return ResponseParser(template, prefix=opening)

    @cached_property
    def has_plain_content(self) -> bool:
        """Whether what stands in no other field is the answer, so that no other is open then."""
        return self._template.implicit == "content" and set(self._fields) <= {
            "content",
            CALLS,
            *REASONING,
        }

    def grammar(self, lark: Lark, tools: Sequence[Tool], choice: ToolChoice) -> str:
        raise InvalidRequest(
            "this model's tool calls are read by its response_template, and cannot be forced; "
            'use tool_choice "auto" without strict functions, or name its syntax under [output] in '
            "its model.toml",
            param="tool_choice" if choice.mode is ToolMode.REQUIRED or choice.names else "tools",
        )

    def calls_in(self, body: str, captures: dict[str, str]) -> list[tuple[str, Any]]:
        """Names and arguments of the calls in what stands between two delimiters.

        Raises:
            ValueError: it contains none.
        """
        try:
            value = process_field(body, self._template.fields[CALLS], captures)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        found = []
        for item in value if isinstance(value, list) else [value]:
            call = item.get("function", item) if isinstance(item, dict) else None
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                raise ValueError("a call has no name")
            found.append((call["name"], call.get("arguments", {})))
        return found

    def written(self, body: str) -> str:
        """A call's text with its delimiters, as far as they are known."""
        field = self._fields[CALLS]
        before, after = (field.get(key) for key in ("open", "close"))
        return (
            (before if isinstance(before, str) else "")
            + body
            + (after if isinstance(after, str) else "")
        )


class TemplateReader:
    """Turns the events of one `ResponseParser` into pieces."""

    def __init__(
        self,
        syntax: TemplateSyntax,
        parser: Any,
        source: Source,
        pieces: Pieces,
        calls: ToolCalls | None,
    ) -> None:
        self._syntax = syntax
        self._parser = parser
        self._source = source
        self._calls = calls
        if calls is not None:
            calls.on_begin = self._on_call
        self._text = Trimmed(pieces.add_text)
        self._reasoning = Trimmed(pieces.add_reasoning, is_fresh=True)
        self.is_thinking = False
        self.num_thoughts = 0
        self._is_broken = self._is_calling = False
        self._pending = ""  # what may have to be text after all
        self._num_chars = 0
        for event in parser.initial_events:  # the prompt's, not the answer's
            if event["type"] != "region_chunk" and event["field"] in REASONING:
                self._think(event["type"] == "region_open")

    def _on_call(self) -> None:
        self._text.drop(is_inside=True)

    def steps(self) -> Steps[None]:
        """All of the text, as it comes."""
        while True:
            text, _ = self._source.window()
            self._feed(self._source.take(len(text)))
            if self._source.is_over:
                break
            yield
        was_thinking = self.is_thinking
        if not self._is_broken:
            self._handle(self._parser.finalize()[1])
        self.is_thinking = was_thinking
        self._reasoning.flush()
        self._text.flush()

    def _feed(self, text: str) -> None:
        """A call that the template's patterns cannot take, and all after it, is text."""
        pending = self._pending + text
        try:
            if not self._is_broken:
                events = self._parser.feed(text)
                self._handle(events)
                shown = sum(len(e.get("text", "")) for e in events if e["field"] != CALLS)
                has_ended = any(e["type"] == "region_close" for e in events)
                self._pending = "" if has_ended and not self._is_calling else pending[shown:]
                self._renew(len(text))
                return
        except (ValueError, KeyError) as error:
            logger.warning("the response_template cannot read what the model wrote: {}", error)
            self._is_broken = True
        self._text.add(pending)
        self._pending = ""

    def _renew(self, num_chars: int) -> None:
        """A parser keeps all it was fed, and copies it each time: begin a new one within long
        text. Long reasoning and long calls are left to one."""
        self._num_chars += num_chars
        is_plain = not (self._is_calling or self.is_thinking or self._pending)
        if self._num_chars > RENEWED_AFTER and is_plain and self._syntax.has_plain_content:
            self._parser = self._syntax.new_parser("", reads_calls=self._calls is not None)
            self._num_chars = 0

    def _handle(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            match event["type"], event["field"]:
                case "region_chunk", field if field in REASONING:
                    self._reasoning.add(event["text"])
                case kind, field if field in REASONING:
                    self._think(kind == "region_open")
                case "region_chunk", field if field != CALLS:
                    self._text.add(event["text"])
                case "region_open", field if field == CALLS:
                    self._is_calling = True
                case "region_close", field if field == CALLS:
                    self._is_calling = False
                    self._call(event["value"])

    def _think(self, is_begun: bool) -> None:
        self.is_thinking = is_begun
        self.num_thoughts += is_begun
        self._text.drop()
        if not is_begun and not self._source.is_over:
            self._reasoning.drop()

    def _call(self, value: dict[str, Any]) -> None:
        calls = self._calls
        if calls is None:
            return
        try:
            found = self._syntax.calls_in(value["body"], value["captures"])
        except ValueError:
            calls.malformed("it is passed on as text")
            self._text.add(self._syntax.written(value["body"]))
            return
        for name, arguments in found:
            calls.begin(name)
            calls.arguments(_typed(arguments, calls.schema(name)))


def _typed(arguments: Any, schema: Mapping[str, Any]) -> str:
    if isinstance(arguments, str):
        return arguments
    properties = schema.get("properties")
    if not isinstance(arguments, dict) or not isinstance(properties, dict):
        return json.dumps(arguments, ensure_ascii=False)
    written = {
        key: argument_json(value, properties.get(key), schema)
        if isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        for key, value in arguments.items()
    }
    pairs = (f"{json.dumps(key, ensure_ascii=False)}: {text}" for key, text in written.items())
    return "{" + ", ".join(pairs) + "}"


def _lenient(template: Mapping[str, Any], calls: str) -> dict[str, Any]:
    """The template with every field's text as it is, so that reading it cannot fail."""
    fields = {}
    for name, field in template["fields"].items():
        kept = {key: field[key] for key in _DELIMITERS if key in field}
        groups: set[str] = set()
        for key in ("open_pattern", "close_pattern"):
            groups.update(regex.compile(field[key]).groupindex if key in field else ())
        fields[name] = kept | {"content_args": {"strip": False}}
        if groups or name == calls:
            captures = {group: f"{{{group}}}" for group in sorted(groups)}
            fields[name]["transform"] = {"body": "{content}", "captures": captures}
    return {**template, "fields": fields}


def _without_calls(template: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: field for name, field in template["fields"].items() if name != CALLS}
    return _lenient({**template, "fields": fields}, CALLS)


_DELIMITERS: Final = ("open", "open_pattern", "close", "close_pattern")
