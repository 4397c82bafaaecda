"""From requests to tasks: prompts become tokens, parameters are resolved, and all is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from llmserve.domain import (
    Caller,
    Constraint,
    Conversation,
    EngineInfo,
    GenerationRequest,
    ModelSpec,
    Prompt,
    SamplingFields,
    SamplingParams,
)
from llmserve.engines.engine import Hold
from llmserve.engines.preparation import PreparationPool
from llmserve.engines.task import Task
from llmserve.errors import InvalidRequest, PromptTooLong, WaitTimeout
from llmserve.text.too_long import TooLong
from llmserve.timer import awake_timeout

if TYPE_CHECKING:
    from llmserve.engines.constraints.compiler import ConstraintCompiler
    from llmserve.engines.token_rule import AnswerRule
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
    ) -> None:
        """Without a compiler, requests with a constraint are refused."""
        self._spec = spec
        self._tokenizer = tokenizer
        self._info = info
        self._pool = pool
        self._clock = clock
        self._compiler = compiler

    async def build(
        self,
        requests: Sequence[GenerationRequest],
        caller: Caller,
        deadline: float,
        hold: Hold,
    ) -> list[Task]:
        """A task for each request, as `Generator.prepare`; equal prompts are encoded once."""
        begun_at = self._clock()
        encoded: dict[Prompt, tuple[int, ...]] = {}
        rules: dict[Constraint | None, Callable[[], AnswerRule] | None] = {None: None}
        try:
            async with awake_timeout(max(LEAST_SECONDS, deadline - begun_at), self._clock):
                for request in requests:
                    if request.constraint not in rules:
                        rules[request.constraint] = await self._compile(request, caller, hold)
                    if request.prompt in encoded:
                        continue
                    ids = await self._encode(request, caller, hold)
                    encoded[request.prompt] = tuple(ids)
        except TimeoutError:
            raise WaitTimeout(
                f"the prompt was not made into tokens within {self._clock() - begun_at:.1f} s, "
                "when this request's time was over; send a shorter one, allow it more time, or try "
                "again later"
            ) from None
        return [
            replace(
                self._task(request, encoded[request.prompt], caller, deadline),
                new_rule=rules[request.constraint],
            )
            for request in requests
        ]

    async def _compile(
        self, request: GenerationRequest, caller: Caller, hold: Hold
    ) -> Callable[[], AnswerRule] | None:
        if request.constraint is None:
            return None
        if self._compiler is None:
            raise InvalidRequest(
                "this model's answers cannot be constrained; leave it out",
                param=request.constraint.param,
            )
        return await self._compiler.compile(request.constraint, caller=caller, hold=hold)

    async def _encode(
        self,
        request: GenerationRequest,
        caller: Caller,
        hold: Hold,
    ) -> list[int]:
        """On a thread of the pool, which may go on though the caller has left."""
        max_context = self._info.max_context
        try:
            return await self._pool.run(
                partial(self._tokenizer.encode, request.prompt, max_context),
                size=_size(request.prompt),
                caller=caller.name,
                priority=caller.priority,
                on_end=hold(),
            )
        except TooLong as error:
            max_tokens = self._sampling(request).max_tokens or 1
            raise PromptTooLong(error.fewest, max_tokens, max_context, is_exact=False) from None

    def _task(
        self,
        request: GenerationRequest,
        prompt_ids: tuple[int, ...],
        caller: Caller,
        deadline: float,
    ) -> Task:
        info = self._info
        if not prompt_ids:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        sampling = self._sampling(request)
        room = info.max_context - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(len(prompt_ids), sampling.max_tokens or 1, info.max_context)
        biased = [token_id for token_id, _ in sampling.logit_bias]
        self._tokenizer.check(biased, param="logit_bias")
        max_tokens = min(room, sampling.max_tokens or room)
        if request.sampling.min_tokens is None:  # the model's own wish gives way
            sampling = replace(sampling, min_tokens=min(sampling.min_tokens, max_tokens))
        if sampling.min_tokens > max_tokens:
            raise InvalidRequest(
                f"min_tokens is {sampling.min_tokens} and at most {max_tokens} can be generated; "
                "lower it",
                param="min_tokens",
            )
        return Task(
            request_id=request.id,
            prompt_ids=prompt_ids,
            sampling=sampling.under(info.rules),
            max_tokens=max_tokens,
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            cache_salt=request.cache_salt,
        )

    def _sampling(self, request: GenerationRequest) -> SamplingParams:
        return SamplingParams.resolve(
            request.sampling,
            self._spec.sampling,
            _bounded(self._info.sampling, request.defaults),
            request.defaults,
        )


def _bounded(recommended: SamplingFields, defaults: SamplingFields) -> SamplingFields:
    """A model's recommended `max_tokens` makes no answer longer than its transport does."""
    if recommended.max_tokens is None or defaults.max_tokens is None:
        return recommended
    return replace(recommended, max_tokens=min(recommended.max_tokens, defaults.max_tokens))


def _size(prompt: Prompt) -> int:
    """Characters of a text or a conversation; token ids, which cost less, count one each."""
    if isinstance(prompt, Conversation):
        written = sum(len(message.content) for message in prompt.messages)
        return written + sum(len(tool.definition) for tool in prompt.tools)
    return len(prompt)
