"""An `OutputParser` for every syntax: what was read becomes deltas, and tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmserve.domain import Delta, Finish, FinishReason, Terminal
from llmserve.text.output.pieces import Pieces
from llmserve.text.output.source import Source
from llmserve.text.output.syntax import Reader
from llmserve.text.output.tool_calls import ToolCalls


class AnswerParser:
    """Each delta that comes in becomes one that goes out, with its tokens; the text in it may be
    older, or none. Owned by the event loop.

    Tokens of reasoning are counted up to the delimiter that ends it, exactly where that is a single
    token; otherwise up to the end of the delta in which it ends.
    """

    def __init__(
        self,
        source: Source,
        pieces: Pieces,
        calls: ToolCalls | None,
        reader: Reader,
        end_id: int | None,
    ) -> None:
        """`end_id` is the token that ends reasoning."""
        self._source = source
        self._pieces = pieces
        self._calls = calls
        self._reader = reader
        self._end_id = end_id
        self._steps = reader.steps()
        self._num_tokens = 0
        self._reasoning_tokens = 0

    def feed(self, delta: Delta) -> Sequence[Delta]:
        """One delta, unless there is nothing to say."""
        had_thoughts = self._reader.num_thoughts
        was_thinking = self._reader.is_thinking
        if delta.text:
            self._source.add(delta.text)
            next(self._steps, None)
        if self._reader.is_thinking:
            self._reasoning_tokens = self._num_tokens + len(delta.token_ids)
        elif was_thinking or self._reader.num_thoughts > had_thoughts:
            self._reasoning_tokens = self._num_tokens + self._end_in(delta.token_ids)
        self._num_tokens += len(delta.token_ids)
        read = replace(self._pieces.taken(), token_ids=delta.token_ids, logprobs=delta.logprobs)
        return (read,) if read != Delta("", ()) else ()

    def flush(self) -> Sequence[Delta]:
        """What was held back, as one delta without tokens."""
        self._source.is_over = True
        next(self._steps, None)
        read = self._pieces.taken()
        return (read,) if read != Delta("", ()) else ()

    def conclude(self, terminal: Terminal) -> Terminal:
        """An answer with calls that stopped of itself, ended for them."""
        usage = terminal.usage
        is_thought = self._reader.is_thinking
        tokens = usage.completion_tokens if is_thought else self._reasoning_tokens
        tokens = min(tokens, usage.completion_tokens)
        if tokens:
            terminal = replace(terminal, usage=replace(usage, reasoning_tokens=tokens))
        has_calls = self._calls is not None and self._calls.count > 0
        if has_calls and isinstance(terminal, Finish) and terminal.reason is FinishReason.STOP:
            terminal = replace(terminal, reason=FinishReason.TOOL_CALLS)
        return terminal

    def _end_in(self, token_ids: Sequence[int]) -> int:
        """How many of these tokens are reasoning, which ends in their text."""
        if self._end_id in token_ids:
            return token_ids.index(self._end_id) + 1
        return len(token_ids)
