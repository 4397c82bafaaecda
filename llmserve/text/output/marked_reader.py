"""Reads answers in which delimiters tell reasoning, text and calls apart."""

from __future__ import annotations

from llmserve.text.output.calls.form import CallForm, Outcome
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Marks, Source, Steps
from llmserve.text.output.thinking import Thinking
from llmserve.text.output.tool_calls import ToolCalls
from llmserve.text.output.trimmed import Trimmed


class MarkedReader:
    """Reasoning can come only first: later its delimiters are text.

    A call that is malformed before its arguments begin is text, its delimiters included; after
    that it is a call, with its arguments as they were written. White space next to delimiters is
    dropped; an answer without delimiters is passed on unchanged.
    """

    def __init__(
        self,
        source: Source,
        pieces: Pieces,
        calls: ToolCalls | None,
        form: CallForm | None,
        thinking: Thinking | None,
        opening: str,
    ) -> None:
        self._source = source
        self._calls = calls
        if calls is not None:
            calls.on_begin = self._on_call
        self._form = form
        self._thinking = thinking
        self.is_thinking = thinking is not None and thinking.is_open(opening)
        self.num_thoughts = int(self.is_thinking)
        self._text = Trimmed(pieces.add_text)
        self._reasoning = Trimmed(pieces.add_reasoning, is_fresh=True)
        self._is_unclosed = False

    def _on_call(self) -> None:
        self._source.forget()
        self._text.drop(is_inside=True)

    def steps(self) -> Steps[None]:
        """Reasoning, then the answer."""
        thinking = self._thinking
        if thinking is not None:
            if not self.is_thinking:
                begun = yield from self._source.match(thinking.begins)
                self.is_thinking = begun is not None
                self.num_thoughts += self.is_thinking
            if self.is_thinking:
                yield from self._reason(thinking)
        yield from self._answer()

    def _reason(self, thinking: Thinking) -> Steps[None]:
        form = self._form
        triggers = form.triggers if form is not None and form.ends_reasoning else ()
        mark = yield from self._source.until(Marks((thinking.end, *triggers)), self._reasoning.add)
        if mark is None:
            self._reasoning.flush()
            return
        self.is_thinking = False
        self._text.drop()
        if mark in triggers:
            self._source.give_back(mark)

    def _answer(self) -> Steps[None]:
        form, calls = self._form, self._calls
        around = () if self._thinking is None or not self.num_thoughts else self._thinking.around
        if form is None or calls is None:
            yield from self._plain(Marks(around))
            return
        if form.is_bare and not self.is_thinking:
            yield from self._read("", form, calls)
        marks = Marks((*around, *form.triggers, *form.ends))
        while (mark := (yield from self._source.until(marks, self._text.add))) is not None:
            if mark in form.triggers:
                yield from self._read(mark, form, calls)
            elif mark in around or self._is_unclosed:
                self._text.drop()
                self._is_unclosed = False
            else:
                self._text.add(mark)
        self._text.flush()

    def _plain(self, around: Marks) -> Steps[None]:
        while (yield from self._source.until(around, self._text.add)) is not None:
            self._text.drop()
        self._text.flush()

    def _read(self, trigger: str, form: CallForm, calls: ToolCalls) -> Steps[None]:
        self._source.record(trigger)
        outcome = yield from form.read(trigger, self._source, calls)
        self._is_unclosed = outcome is Outcome.UNCLOSED
        written = self._source.recorded()
        if outcome is Outcome.MALFORMED and trigger:
            calls.malformed("it is passed on as text")
        if trigger and written.startswith(trigger):
            self._text.add(trigger)
            written = written.removeprefix(trigger)
        self._source.give_back(written)
