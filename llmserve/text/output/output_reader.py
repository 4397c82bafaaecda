"""What one loaded model's text means: everything that a task needs to know of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from llmserve.domain import SyntaxInfo, Tool, ToolChoice, ToolMode
from llmserve.errors import InvalidRequest
from llmserve.text.output.choice import ChosenSyntax
from llmserve.text.output.lark import Lark
from llmserve.text.output.new_parser import new_parser
from llmserve.text.output.parser import IdentityParser, OutputParser


class OutputReader:
    """Built once for each loaded model; may be used from any thread.

    `opening` is always the rendered prompt after its last message, or from the beginning of a last
    message that the answer continues: what callers wrote before must not be taken for delimiters.
    """

    def __init__(self, chosen: ChosenSyntax, hf_tokenizer: Any) -> None:
        self.chosen = chosen
        self._syntax = chosen.syntax
        self._hf = hf_tokenizer
        added = getattr(hf_tokenizer, "added_tokens_decoder", {})
        self._ids = {str(token.content): token_id for token_id, token in added.items()}
        self._special = frozenset(str(token.content) for token in added.values() if token.special)

    @property
    def info(self) -> SyntaxInfo:
        """For `/v1/models`."""
        chosen = self.chosen
        return SyntaxInfo(chosen.name, chosen.is_own, chosen.has_reasoning, chosen.why)

    def parser_factory(
        self,
        tools: Sequence[Tool],
        choice: ToolChoice,
        opening: str,
        seed: int | None = None,
    ) -> Callable[[], OutputParser]:
        """What makes a parser for each answer. Without tools, or if none may be called, their
        syntax is text. `seed` is for the ids of calls; `None` makes them unpredictable."""
        if not self.reads_calls(tools, choice):
            if self._syntax.thinking is None:
                return IdentityParser
            return partial(self._new_parser, None, opening, seed)
        return partial(self._new_parser, tuple(tools), opening, seed)

    def reads_calls(self, tools: Sequence[Tool], choice: ToolChoice) -> bool:
        """Whether an answer's calls are read."""
        return bool(tools) and choice.mode is not ToolMode.NONE

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice) -> str | None:
        """The grammar (Lark, for llguidance) of answers that must call tools, or that call strict
        ones, only some or only once; `None` if any text will do.

        It is for what follows the reasoning, or, if `covers_reasoning`, for the whole answer.

        Raises:
            InvalidRequest: a call is required of no tool, or cannot be forced.
        """
        if not self.reads_calls(tools, choice):
            if choice.mode is ToolMode.REQUIRED:
                raise InvalidRequest(
                    "tool_choice requires a call, and there are no tools", param="tool_choice"
                )
            return None
        allowed = [tool for tool in tools if not choice.names or tool.name in choice.names]
        if not allowed:
            raise InvalidRequest(
                f"tool_choice names {', '.join(choice.names)}, and the tools are "
                f"{', '.join(tool.name for tool in tools)}",
                param="tool_choice",
            )
        is_any = len(allowed) == len(tools) and not any(tool.is_strict for tool in tools)
        if choice.mode is ToolMode.AUTO and is_any and choice.is_parallel:
            return None
        return self._syntax.grammar(self._lark(), allowed, choice)

    @property
    def covers_reasoning(self) -> bool:
        """Whether a grammar is for the whole answer, its reasoning included."""
        return self._syntax.covers_reasoning

    def shown_tokens(self, *, reads_calls: bool = True) -> frozenset[int]:
        """The special tokens whose text a parser must see."""
        return self._shown[reads_calls]

    @cached_property
    def _shown(self) -> Mapping[bool, frozenset[int]]:
        """For answers whose calls are read, and for others. Found once: some vocabularies have a
        thousand special tokens, and every request asks."""
        syntax = self._syntax
        of_thinking = () if syntax.thinking is None else syntax.thinking.markers
        without_calls = syntax.markers if syntax.covers_reasoning else of_thinking
        return {True: self._within(syntax.markers), False: self._within(without_calls)}

    def _within(self, markers: Sequence[str]) -> frozenset[int]:
        """The special tokens that these delimiters are made of."""
        return frozenset(
            self._ids[token]
            for token in self._special
            if any(token in marker for marker in markers) and token not in self._ends
        )

    def starts_in_reasoning(self, opening: str) -> bool:
        """Whether an answer that is opened like this is in the midst of reasoning; what follows it
        begins after `reasoning_end`."""
        return self._syntax.starts_in_reasoning(opening)

    def has_reasoned(self, opening: str) -> bool:
        """Whether the prompt has closed the reasoning, so that the answer has none."""
        thinking = self._syntax.thinking
        closed = thinking is not None and thinking.end in opening
        return closed and not self.starts_in_reasoning(opening)

    @cached_property
    def reasoning_start(self) -> tuple[int, ...]:
        """The tokens that open reasoning; empty if there is none."""
        thinking = self._syntax.thinking
        return () if thinking is None else self._tokens(thinking.start)

    @cached_property
    def reasoning_end(self) -> tuple[int, ...]:
        """The tokens after which the answer itself begins; empty if there is no reasoning."""
        thinking = self._syntax.thinking
        return () if thinking is None else self._tokens(thinking.end)

    @cached_property
    def reasoning_closing(self) -> tuple[int, ...]:
        """The tokens that end reasoning wherever it stands: what a budget forces."""
        thinking = self._syntax.thinking
        return () if thinking is None else self._tokens(thinking.closing or thinking.end)

    def _new_parser(
        self, tools: tuple[Tool, ...] | None, opening: str, seed: int | None
    ) -> OutputParser:
        source = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311
        return new_parser(self._syntax, tools, opening, source, self._last_of_reasoning)

    @cached_property
    def _last_of_reasoning(self) -> int | None:
        """The one token that ends reasoning; in `closing` it comes first."""
        if len(self.reasoning_closing) == 1 or self._syntax.covers_reasoning:
            return self.reasoning_closing[0]
        return None

    @cached_property
    def _ends(self) -> frozenset[str]:
        """Their text is never part of an answer."""
        return frozenset(filter(None, (self._hf.eos_token, self._hf.bos_token, self._hf.pad_token)))

    def _lark(self) -> Lark:
        """llguidance takes every added token between angle brackets for a special one, too."""
        tokens = {m: self._ids[m] for m in self._syntax.markers if m in self._ids}
        return Lark(
            {
                marker: token_id
                for marker, token_id in tokens.items()
                if marker in self._special or (marker.startswith("<") and marker.endswith(">"))
            }
        )

    def _tokens(self, text: str) -> tuple[int, ...]:
        """A token of its own, or as the text is tokenized by itself: within other text, a delimiter
        that is no token may be cut differently."""
        if text in self._ids:
            return (self._ids[text],)
        return tuple(self._hf.encode(text, add_special_tokens=False))
