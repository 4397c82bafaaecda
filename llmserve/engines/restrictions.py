"""Which tokens an answer may have: by a format, by calls of tools, by bans and by a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from llmserve.domain import (
    Caller,
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    SamplingParams,
    ToolMode,
)
from llmserve.engines.constraints.alternatives import AnyOf
from llmserve.engines.constraints.combined import AllOf
from llmserve.engines.constraints.reasoning import AfterReasoning
from llmserve.engines.engine import Hold
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.rules.bad_words import TokenSequence, sequences_of
from llmserve.engines.rules.of_sampling import rules_of
from llmserve.engines.rules.thinking_budget import ThinkingBudget
from llmserve.errors import InvalidRequest

if TYPE_CHECKING:
    from llmserve.engines.constraints.compiler import ConstraintCompiler
    from llmserve.engines.token_rule import AnswerRule, TokenRule
    from llmserve.text.output.output_reader import OutputReader
    from llmserve.text.tokenizer import Tokenizer

NewRule = Callable[[], "AnswerRule"]


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Makes the rules of a model's answers. Owned by the event loop.

    Attributes:
        reader: `None` where answers are plain text.
        compiler: `None` where nothing can be constrained.
        banned: what the model itself never generates.
        eos_ids: what ends its answers.
    """

    tokenizer: Tokenizer
    reader: OutputReader | None
    compiler: ConstraintCompiler | None
    pool: PreparationPool
    banned: tuple[TokenSequence, ...] = ()
    eos_ids: tuple[int, ...] = ()

    async def of(
        self,
        request: GenerationRequest,
        sampling: SamplingParams,
        opening: str,
        caller: Caller,
        hold: Hold,
    ) -> NewRule | None:
        """What makes the rule of each answer to a request; `None` if any token may come. `opening`
        is how the prompt opens the answer.

        Raises:
            InvalidRequest: a restriction cannot be kept; names the field.
            QueueFull: too much waits to be compiled.
        """
        form = await self._form(request, opening, caller, hold)
        banned = (*self.banned, *await self._sequences(sampling.bad_words, caller, hold))
        others = [*rules_of(sampling, banned), *self._budget(request, sampling, opening)]
        if not others:
            return form
        return partial(_all_of, form, others)

    async def _form(
        self, request: GenerationRequest, opening: str, caller: Caller, hold: Hold
    ) -> NewRule | None:
        """A format, or calls, or either of them; after the reasoning, if there is any."""
        forms: list[NewRule] = []
        covers_reasoning = False
        if request.constraint is not None:
            forms.append(await self._compile(request.constraint, caller, hold))
        calls = self._calls(request)
        if calls is not None:
            assert self.reader is not None, "calls are read"
            covers_reasoning = self.reader.covers_reasoning
            forms.append(await self._compile(calls, caller, hold))
        if not forms:
            return None
        form = forms[0] if len(forms) == 1 else partial(_any_of, forms)
        if self.reader is None or covers_reasoning or not isinstance(request.prompt, Conversation):
            return form
        return partial(_after_reasoning, form, self.reader, opening, self.eos_ids)

    def _calls(self, request: GenerationRequest) -> Constraint | None:
        """The form of calls, where an answer must have them, or where its text has a form, too."""
        prompt, choice = request.prompt, request.tool_choice
        if self.reader is None or not isinstance(prompt, Conversation):
            return None
        if request.constraint is not None and choice.mode is ToolMode.AUTO and prompt.tools:
            choice = replace(choice, mode=ToolMode.REQUIRED)
        grammar = self.reader.grammar(prompt.tools, choice)
        return None if grammar is None else Constraint(ConstraintKind.GRAMMAR, grammar, "tools")

    async def _compile(self, constraint: Constraint, caller: Caller, hold: Hold) -> NewRule:
        if self.compiler is None:
            raise InvalidRequest(
                "this model's answers cannot be constrained; leave it out", param=constraint.param
            )
        return await self.compiler.compile(constraint, caller=caller, hold=hold)

    async def _sequences(
        self, words: tuple[str, ...], caller: Caller, hold: Hold
    ) -> tuple[TokenSequence, ...]:
        """The tokens of bad words, found on a thread of the pool."""
        if not words:
            return ()
        return await self.pool.run(
            partial(sequences_of, words, self.tokenizer),
            size=sum(map(len, words)),
            caller=caller.name,
            priority=caller.priority,
            on_end=hold(),
        )

    def _budget(
        self, request: GenerationRequest, sampling: SamplingParams, opening: str
    ) -> list[Callable[[], TokenRule]]:
        """The end of reasoning; an operator's budget for a model that does not reason is none."""
        budget = sampling.thinking_budget
        closing = () if self.reader is None else self.reader.reasoning_closing
        if budget is None or self.reader is None or not closing:
            if request.sampling.thinking_budget is not None and request.requires_reasoning:
                raise InvalidRequest(
                    "this model does not reason between marks that the server knows; leave "
                    "thinking_token_budget out",
                    param="thinking_token_budget",
                )
            return []
        rule = partial(
            ThinkingBudget,
            budget,
            closing,
            starts_inside=self.reader.starts_in_reasoning(opening),
            start=self.reader.reasoning_start,
        )
        return [rule]


def _all_of(form: NewRule | None, others: Sequence[Callable[[], TokenRule]]) -> AnswerRule:
    return AllOf(None if form is None else form(), [make() for make in others])


def _any_of(forms: Sequence[NewRule]) -> AnswerRule:
    return AnyOf([make() for make in forms])


def _after_reasoning(
    form: NewRule, reader: OutputReader, opening: str, eos_ids: tuple[int, ...]
) -> AnswerRule:
    start = reader.reasoning_start
    may_begin = len(start) == 1 and not reader.has_reasoned(opening)
    return AfterReasoning(
        form(),
        start[0] if may_begin else None,
        reader.reasoning_end,
        is_inside=reader.starts_in_reasoning(opening),
        ends_of_answer=eos_ids,
    )
