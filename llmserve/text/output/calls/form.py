"""What every form of tool calls is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from llmserve.domain import Tool, ToolCall
from llmserve.text.output.lark import Lark
from llmserve.text.output.source import Source, Steps
from llmserve.text.output.tool_calls import ToolCalls


class Outcome(Enum):
    """How the reading of calls ended.

    MALFORMED: what the source has recorded is no call. UNCLOSED: the calls are read, but not the
    delimiter that ends them.
    """

    CLOSED = auto()
    UNCLOSED = auto()
    MALFORMED = auto()


class CallForm(Protocol):
    """A family's way to write calls. Immutable; shared by all answers."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """The delimiters with which calls begin; the first is the one that is written."""
        ...

    @property
    def markers(self) -> tuple[str, ...]:
        """Every delimiter that may be a token of its own."""
        ...

    @property
    def ends(self) -> tuple[str, ...]:
        """The delimiters that end what a trigger began."""
        ...

    @property
    def is_bare(self) -> bool:
        """Whether an answer may begin with a call that no delimiter announces."""
        ...

    @property
    def ends_reasoning(self) -> bool:
        """Whether a trigger ends the reasoning, too: it is a token that no text contains."""
        ...

    def read(self, trigger: str, source: Source, calls: ToolCalls) -> Steps[Outcome]:
        """Read calls after a trigger, or from the beginning of an answer if it is empty."""
        ...

    def write(self, calls: Sequence[ToolCall]) -> str:
        """These calls as the model would write them, without what it writes before and after."""
        ...

    def rules(self, lark: Lark, tools: Sequence[Tool], *, is_parallel: bool) -> str:
        """The body of a grammar rule for what follows the first trigger: one call of one of
        these tools, or several."""
        ...

    @property
    def between(self) -> str | None:
        """What is written between two regions of calls, each with a trigger; `None` if all calls
        stand in one."""
        ...
