"""From requests to tasks: prompts become tokens, parameters are resolved, and all is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from llmserve.domain import (
    Caller,
    Conversation,
    EngineInfo,
    GenerationRequest,
    ModelSpec,
    Prompt,
    SamplingFields,
    SamplingParams,
)
from llmserve.domain.conversation import prompt_size
from llmserve.domain.request import WHATEVER_FITS
from llmserve.engines.engine import Hold
from llmserve.engines.preparation import QUICK_COUNT, PreparationPool
from llmserve.engines.restrictions import NewRule, Restrictions
from llmserve.engines.task import TokenTask
from llmserve.errors import InvalidRequest, PromptTooLong, WaitTimeout
from llmserve.text.encoded import Encoded
from llmserve.text.output import IdentityParser
from llmserve.text.too_long import TooLong
from llmserve.timer import awake_timeout

if TYPE_CHECKING:
    from llmserve.engines.constraints.compiler import ConstraintCompiler
    from llmserve.text.output import OutputParser
    from llmserve.text.output.output_reader import OutputReader
    from llmserve.text.tokenizer import Tokenizer

LEAST_SECONDS: Final = 1.0
"""For a prompt to become tokens, however short its request's time is: the answer then has the text
that there is by its deadline, none perhaps."""


class TaskBuilder:
    """Makes the tasks of a model whose tokenizer is here, on its own threads. Owned by the event
    loop."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenizer,
        info: EngineInfo,
        pool: PreparationPool,
        clock: Callable[[], float],
        compiler: ConstraintCompiler | None = None,
        reader: OutputReader | None = None,
    ) -> None:
        """Without a compiler, requests with a constraint are refused; without a reader, answers are
        plain text."""
        self._spec = spec
        self._tokenizer = tokenizer
        assert info.max_context is not None, "a model that is here has a context"
        self._info = info
        self._max_context = info.max_context
        self._pool = pool
        self._clock = clock
        self._reader = reader
        self._restrictions = Restrictions(
            tokenizer, reader, compiler, pool, info.rules.banned, tuple(info.eos_ids)
        )

    async def build(
        self,
        requests: Sequence[GenerationRequest],
        caller: Caller,
        deadline: float,
        hold: Hold,
    ) -> list[TokenTask]:
        """A task for each request, as `Generator.prepare`; equal prompts are encoded once."""
        begun_at = self._clock()
        encoded: dict[Prompt, Encoded] = {}
        rules: dict[tuple[object, ...], NewRule | None] = {}
        tasks: list[TokenTask] = []
        is_quick = self._tokenizer.is_quick and len(requests) <= QUICK_COUNT
        try:
            async with awake_timeout(max(LEAST_SECONDS, deadline - begun_at), self._clock):
                for request in requests:
                    if request.prompt not in encoded:
                        encoded[request.prompt] = await self._encode(
                            request, caller, hold, is_quick=is_quick
                        )
                    prompt = encoded[request.prompt]
                    task = self._task(request, prompt, caller, deadline)
                    key = _restricted_by(request, task.sampling)
                    if key not in rules:
                        rules[key] = await self._restrictions.of(
                            request, task.sampling, prompt.opening, caller, hold
                        )
                    tasks.append(replace(task, new_rule=rules[key]))
        except TimeoutError:
            raise WaitTimeout(
                f"the prompt was not made into tokens within {self._clock() - begun_at:.1f} s, "
                "when this request's time was over; send a shorter one, allow it more time, or try "
                "again later"
            ) from None
        return tasks

    async def _encode(
        self,
        request: GenerationRequest,
        caller: Caller,
        hold: Hold,
        *,
        is_quick: bool,
    ) -> Encoded:
        """On a thread of the pool, which may go on though the caller has left, unless it is short
        and has no template."""
        max_context = self._max_context
        try:
            return await self._pool.run(
                partial(
                    self._tokenizer.encoded,
                    request.prompt,
                    max_context if request.max_prompt_tokens is None else None,
                    add_special_tokens=request.adds_special_tokens,
                ),
                size=prompt_size(request.prompt),
                caller=caller.name,
                priority=caller.priority,
                on_end=hold(),
                is_quick=is_quick and not isinstance(request.prompt, Conversation),
            )
        except TooLong as error:
            sampling = self._sampling(request)
            max_tokens = sampling.max_tokens or _fewest(sampling)
            raise PromptTooLong(error.fewest, max_tokens, max_context, is_exact=False) from None

    def _task(
        self,
        request: GenerationRequest,
        prompt: Encoded,
        caller: Caller,
        deadline: float,
    ) -> TokenTask:
        info = self._info
        if not prompt.ids:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        sampling = self._sampling(request)
        prompt_ids = self._last(request, sampling, prompt.ids)
        room = self._max_context - len(prompt_ids)
        fewest = _fewest(sampling)
        if room < fewest:
            raise PromptTooLong(len(prompt_ids), sampling.max_tokens or fewest, self._max_context)
        biased = [token_id for token_id, _ in sampling.logit_bias]
        self._tokenizer.check(biased, param="logit_bias")
        self._tokenizer.check(sampling.stop_token_ids, param="stop_token_ids")
        self._tokenizer.check(sampling.allowed_token_ids, param="allowed_token_ids")
        max_tokens = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
        if request.sampling.min_tokens is None:  # the model's own wish gives way
            sampling = replace(sampling, min_tokens=min(sampling.min_tokens, max_tokens))
        if sampling.min_tokens > max_tokens:
            raise InvalidRequest(
                f"min_tokens is {sampling.min_tokens} and at most {max_tokens} can be generated; "
                "lower it",
                param="min_tokens",
            )
        self._check_allowed(sampling)
        new_parser, shown_tokens = self._reading(request, prompt.opening)
        return TokenTask(
            request_id=request.id,
            prompt_ids=prompt_ids,
            sampling=sampling.under(info.rules),
            max_tokens=max_tokens,
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            is_background=caller.is_background,
            cache_salt=request.cache_salt,
            new_parser=new_parser,
            shown_tokens=shown_tokens,
            adapter=request.adapter,
        )

    def _reading(
        self, request: GenerationRequest, opening: str
    ) -> tuple[Callable[[], OutputParser], frozenset[int]]:
        """What reads the answer, and the special tokens that it must see. Answers to raw prompts
        mean nothing but their text."""
        reader, prompt, choice = self._reader, request.prompt, request.tool_choice
        if reader is None or not isinstance(prompt, Conversation):
            return IdentityParser, frozenset()
        reads_calls = reader.reads_calls(prompt.tools, choice)
        return (
            reader.parser_factory(prompt.tools, choice, opening),
            reader.shown_tokens(reads_calls=reads_calls),
        )

    def _check_allowed(self, sampling: SamplingParams) -> None:
        """
        Raises:
            InvalidRequest: of the allowed tokens none could be the first.
        """
        ends = (*self._info.eos_ids, *sampling.stop_token_ids) if sampling.min_tokens else ()
        allowed = set(sampling.allowed_token_ids)
        if allowed and allowed <= {*self._info.rules.suppressed, *ends}:
            raise InvalidRequest(
                "of allowed_token_ids none can be generated: each ends the answer, before "
                "min_tokens, or is one that this model never generates; allow others",
                param="allowed_token_ids",
            )

    def _last(
        self, request: GenerationRequest, sampling: SamplingParams, prompt_ids: list[int]
    ) -> tuple[int, ...]:
        """What the request keeps of its prompt."""
        most = request.max_prompt_tokens
        if most == WHATEVER_FITS:
            most = max(1, self._max_context - (sampling.max_tokens or _fewest(sampling)))
        return tuple(prompt_ids if most is None else prompt_ids[-most:])

    def _sampling(self, request: GenerationRequest) -> SamplingParams:
        return SamplingParams.resolve(
            request.sampling,
            self._spec.sampling,
            _bounded(self._info.sampling, request.defaults),
            request.defaults,
        )


def _restricted_by(request: GenerationRequest, sampling: SamplingParams) -> tuple[object, ...]:
    """All that the rule of an answer depends on."""
    return (
        request.prompt, request.constraint, request.tool_choice,
        sampling.bad_words, sampling.allowed_token_ids, sampling.thinking_budget,
    )  # fmt: skip


def _fewest(sampling: SamplingParams) -> int:
    """Tokens that the context must have room for, beside the prompt."""
    return 0 if sampling.max_tokens == 0 else 1


def _bounded(recommended: SamplingFields, defaults: SamplingFields) -> SamplingFields:
    """A model's recommended `max_tokens` makes no answer longer than its transport does."""
    if recommended.max_tokens is None or defaults.max_tokens is None:
        return recommended
    return replace(recommended, max_tokens=min(recommended.max_tokens, defaults.max_tokens))
