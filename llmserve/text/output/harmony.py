"""The syntax of gpt-oss: messages, each with a channel and perhaps a recipient.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary
    to=functions.f <|constrain|>json<|message|>{…}<|call|>

Source: https://github.com/openai/harmony. No `response_template` can express it: where a call
stands, and what it is called, is told in a header whose parts have no fixed order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from llmserve.domain import Tool, ToolCall, ToolChoice, ToolMode
from llmserve.text.output.json_text import decoded
from llmserve.text.output.lark import Lark, any_of
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Marks, Source, Steps
from llmserve.text.output.thinking import Thinking
from llmserve.text.output.tool_calls import NewId, ToolCalls, openai_ids, schema_of
from llmserve.text.output.trimmed import Trimmed

START: Final = "<|start|>"
CHANNEL: Final = "<|channel|>"
CONSTRAIN: Final = "<|constrain|>"
MESSAGE: Final = "<|message|>"
END: Final = "<|end|>"
CALL: Final = "<|call|>"
RETURN: Final = "<|return|>"

_ANSWERING: Final = f"{START}assistant"
_HEADER: Final = regex.compile(
    r"[ \t\r\n]*+(?:<\|start\|>|<\|channel\|>)"
    r"(?:(?!<\|(?:message|end|call|return)\|>).)*+<\|message\|>",
    regex.DOTALL,
)
_CHANNEL: Final = regex.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT: Final = regex.compile(r"\bto=([^\s<]+)")
_ANALYSIS: Final = Thinking(
    f"{CHANNEL}analysis{MESSAGE}",
    f"{CHANNEL}final{MESSAGE}",
    closing=f"{END}{_ANSWERING}{CHANNEL}final{MESSAGE}",
)
_BODY_ENDS: Final = Marks((END, CALL, RETURN, START))
_TEXT_ENDS: Final = Marks((END, CALL, RETURN, START, CHANNEL))
_FUNCTIONS: Final = "functions."


@dataclass(frozen=True, slots=True)
class HarmonySyntax:
    """Analysis is reasoning, the final channel and commentary to nobody are text, a message to a
    function is a call. Messages of one kind are joined by an empty line.

    A grammar is for the whole answer: the header of the message that follows the reasoning says
    whether that is a call.
    """

    name: str = "harmony"
    covers_reasoning: bool = True
    markers: tuple[str, ...] = (START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN)
    thinking: Thinking | None = _ANALYSIS

    def starts_in_reasoning(self, opening: str) -> bool:
        """Whether the channel of the answer itself is still to come: any other may come first."""
        return f"{CHANNEL}final{MESSAGE}" not in opening

    def new_ids(self, source: random.Random) -> NewId:
        return openai_ids(source)

    def reader(
        self, source: Source, pieces: Pieces, calls: ToolCalls | None, opening: str
    ) -> HarmonyReader:
        return HarmonyReader(source, pieces, calls, opening)

    def write(self, calls: Sequence[ToolCall]) -> str:
        return f"{CALL}{_ANSWERING}".join(
            f"{CHANNEL}commentary to={_FUNCTIONS}{call.name} {CONSTRAIN}json{MESSAGE}"
            f"{call.arguments}"
            for call in calls
        )

    def grammar(self, lark: Lark, tools: Sequence[Tool], choice: ToolChoice) -> str:
        text = lark.rule("text", "/(.|\\n)*/")
        called = any_of(
            [
                f"({lark.literal(f'to={_FUNCTIONS}{tool.name} {CONSTRAIN}json{MESSAGE}')} "
                f"{lark.json(schema_of(tool), is_strict=tool.is_strict)} {lark.literal(CALL)})"
                for tool in tools
            ]
        )
        commentary = lark.literal(f"{CHANNEL}commentary")
        call = lark.rule("call", f'{commentary} " " {called}')
        between = lark.literal(END + _ANSWERING)
        analysis = f"{lark.literal(f'{CHANNEL}analysis{MESSAGE}')} {text}"
        if choice.mode is ToolMode.REQUIRED:
            return lark.grammar(f"({analysis} {between})* {call}")
        spoken = f"{commentary} {lark.literal(MESSAGE)} {text}"
        more = lark.rule("more", f"({analysis} | {spoken}) {between}")
        final = f"{lark.literal(f'{CHANNEL}final{MESSAGE}')} {text}"
        return lark.grammar(f"{more}* ({final} | {call})")


class HarmonyReader:
    """Reads messages, one after the other."""

    def __init__(
        self, source: Source, pieces: Pieces, calls: ToolCalls | None, opening: str
    ) -> None:
        self._source = source
        self._calls = calls
        if calls is not None:
            calls.on_begin = self._on_call
        self._text = _Channel(pieces.add_text)
        self._reasoning = _Channel(pieces.add_reasoning)
        self.is_thinking = False
        self.num_thoughts = 0
        begun = opening.rfind(START)
        if begun >= 0:
            header, message, _ = opening[begun:].partition(MESSAGE)
            source.give_back(header + message)

    def _on_call(self) -> None:
        self._source.forget()

    def steps(self) -> Steps[None]:
        """A header and a body, again and again; what has no header is text."""
        while True:
            self._source.record()
            header = yield from self._source.match(_HEADER)
            if header is not None:
                yield from self._message(header.group())
                continue
            mark = yield from self._source.until(_TEXT_ENDS, self._text.add)
            if mark is None:
                self._text.flush()
                return
            if mark not in (START, CHANNEL):
                self._text.drop()
            elif not (yield from self._begins(mark)):
                return

    def _message(self, header: str) -> Steps[None]:
        channel = _CHANNEL.search(header)
        recipient = _RECIPIENT.search(header)
        if recipient is not None and self._calls is not None:
            yield from self._call(recipient[1], header, self._calls)
            return
        self._source.forget()
        if recipient is not None:
            yield from self._as_text(header)
        elif channel is not None and channel[1] == "analysis":
            self.is_thinking = True
            self.num_thoughts += 1
            self._reasoning.begin()
            self.is_thinking = (yield from self._body(self._reasoning)) is None
        else:
            self._text.begin()
            yield from self._body(self._text)

    def _call(self, recipient: str, header: str, calls: ToolCalls) -> Steps[None]:
        name = recipient.removeprefix(_FUNCTIONS)
        if recipient == name and not calls.knows(name):
            calls.malformed("its recipient is no function; it is passed on as text")
            self._source.forget()
            yield from self._as_text(header)
            return
        calls.begin(name)
        written: list[str] = []

        def add(text: str) -> None:
            written.append(text)
            calls.arguments(text)

        arguments = Trimmed(add, is_fresh=True)
        mark = yield from self._source.until(_BODY_ENDS, arguments.add)
        if not written and mark is not None:
            calls.arguments("{}")
        elif decoded("".join(written)) is None:
            calls.malformed("its arguments are no JSON")
        if mark == START:
            self._source.give_back(mark)

    def _as_text(self, header: str) -> Steps[None]:
        self._text.begin()
        self._text.add(header)
        yield from self._body(self._text)

    def _body(self, channel: _Channel) -> Steps[str | None]:
        mark = yield from self._source.until(_BODY_ENDS, channel.add)
        if mark is None:
            channel.flush()
            return None
        channel.drop()
        if mark == START:
            self._source.give_back(mark)
        return mark

    def _begins(self, mark: str) -> Steps[bool]:
        """Read the message that this mark begins; whether more may follow.

        A header that is cut is left out, unless it is that of a call.
        """
        self._source.give_back(mark)
        header = yield from self._source.match(_HEADER)
        if header is not None:
            yield from self._message(header.group())
            return True
        if not self._source.is_over:  # too long for a header, or another delimiter in it
            yield from self._source.until(_TEXT_ENDS, self._text.add)
            self._text.add(mark)
            return True
        rest: list[str] = []
        yield from self._source.until(Marks(()), rest.append)
        if _RECIPIENT.search("".join(rest)):
            self._text.add("".join(rest))
        self._text.flush()
        return False


class _Channel(Trimmed):
    """What goes to one field of the answer; its messages are joined by an empty line."""

    def __init__(self, emit: Callable[[str], None], *, is_fresh: bool = False) -> None:
        super().__init__(self._joined, is_fresh=is_fresh)
        self._to = emit
        self._is_used = self._is_next = False

    def begin(self) -> None:
        """A message begins."""
        self.drop()
        self._is_next = self._is_used

    def _joined(self, text: str) -> None:
        self._to("\n\n" + text if self._is_next else text)
        self._is_used, self._is_next = True, False
