"""What the text of a family of models means, as data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmserve.domain import Tool, ToolCall, ToolChoice
from llmserve.text.output.calls.form import CallForm
from llmserve.text.output.forcing import marked_grammar
from llmserve.text.output.lark import Lark
from llmserve.text.output.marked_reader import MarkedReader
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.thinking import Thinking
from llmserve.text.output.tool_calls import NewId, ToolCalls, mistral_ids, openai_ids


class Reader(Protocol):
    """Reads one answer. Owned by the event loop."""

    is_thinking: bool
    """Whether what was read last is reasoning that has not ended."""

    num_thoughts: int
    """How many times reasoning has begun."""

    def steps(self) -> Steps[None]:
        """Read all of the source."""
        ...


class OutputSyntax(Protocol):
    """How a family of models writes reasoning and calls. Immutable."""

    @property
    def name(self) -> str:
        """As in `model.toml`."""
        ...

    @property
    def thinking(self) -> Thinking | None:
        """The delimiters of reasoning; `None` where there is none."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """The delimiters that may be tokens of their own, those of reasoning included."""
        ...

    @property
    def covers_reasoning(self) -> bool:
        """Whether `grammar` is for the whole answer; otherwise for what follows the reasoning."""
        ...

    def starts_in_reasoning(self, opening: str) -> bool:
        """Whether an answer that is opened like this, by the rendered prompt after its last
        message, is in the midst of reasoning."""
        ...

    def new_ids(self, source: random.Random) -> NewId:
        """The ids of calls to which the model gives none."""
        ...

    def reader(
        self, source: Source, pieces: Pieces, calls: ToolCalls | None, opening: str
    ) -> Reader:
        """What reads an answer; without `calls` their syntax is text like any other."""
        ...

    def grammar(self, lark: Lark, tools: Sequence[Tool], choice: ToolChoice) -> str:
        """The grammar of an answer that calls these tools, if it must or when it does.

        Raises:
            InvalidRequest: nobody knows how this syntax is written.
        """
        ...


class FamilySyntax(OutputSyntax, Protocol):
    """One that is known so well that it can be written, too."""

    def write(self, calls: Sequence[ToolCall]) -> str:
        """These calls as the model would write them, at the beginning of an answer."""
        ...


@dataclass(frozen=True)
class MarkedSyntax:
    """Reasoning first, then text and calls, each between delimiters."""

    name: str
    calls: CallForm
    thinking: Thinking | None = None
    has_short_ids: bool = False

    covers_reasoning = False

    @property
    def markers(self) -> tuple[str, ...]:
        of_thinking = () if self.thinking is None else self.thinking.markers
        return (*of_thinking, *self.calls.markers)

    def starts_in_reasoning(self, opening: str) -> bool:
        return self.thinking is not None and self.thinking.is_open(opening)

    def new_ids(self, source: random.Random) -> NewId:
        return mistral_ids(source) if self.has_short_ids else openai_ids(source)

    def reader(
        self, source: Source, pieces: Pieces, calls: ToolCalls | None, opening: str
    ) -> Reader:
        form = None if calls is None else self.calls
        return MarkedReader(source, pieces, calls, form, self.thinking, opening)

    def write(self, calls: Sequence[ToolCall]) -> str:
        return self.calls.write(calls)

    def grammar(self, lark: Lark, tools: Sequence[Tool], choice: ToolChoice) -> str:
        return marked_grammar(lark, self.calls, tools, choice, follows=self.thinking is not None)
