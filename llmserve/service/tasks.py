"""From requests to tasks: prompts become tokens, parameters are resolved, and all is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from llmserve.domain import (
    Caller,
    GenerationRequest,
    Message,
    Prompt,
    SamplingFields,
    SamplingParams,
)
from llmserve.engines.task import Task
from llmserve.errors import InvalidRequest, PromptTooLong, WaitTimeout
from llmserve.registry.served import ServedModel
from llmserve.service.shares import Shares
from llmserve.text.too_long import TooLong
from llmserve.timer import awake_timeout

LEAST_SECONDS: Final = 1.0
"""For a prompt to become tokens, however short its request's time is: the answer then has the text
that there is by its deadline, none perhaps."""


class TaskBuilder:
    """Makes tasks for one model after the other. Owned by the event loop.

    `request_timeout_seconds` is both default and upper bound of a request's own timeout.
    """

    def __init__(self, request_timeout_seconds: float, clock: Callable[[], float]) -> None:
        self._most_seconds = request_timeout_seconds
        self._clock = clock

    def deadline(self, requests: Sequence[GenerationRequest], arrived_at: float) -> float:
        """When requests that came together must be over."""
        seconds = (request.timeout_seconds or self._most_seconds for request in requests)
        return arrived_at + min(*seconds, self._most_seconds)

    async def build(
        self,
        requests: Sequence[GenerationRequest],
        served: ServedModel,
        caller: Caller,
        shares: Shares,
        deadline: float,
    ) -> list[Task]:
        """A task for each request. Everything about them that can be wrong is checked.

        Raises:
            InvalidRequest: the prompt or a parameter cannot be served.
            QueueFull: too many prompts wait for the model's threads.
            NotReady: the model is unloaded meanwhile, or the server drains.
            WaitTimeout: it took longer than the deadline and `LEAST_SECONDS` allow.
        """
        begun_at = self._clock()
        encoded: dict[Prompt, list[int]] = {}
        try:
            async with awake_timeout(max(LEAST_SECONDS, deadline - begun_at), self._clock):
                for request in requests:
                    if request.prompt not in encoded:
                        ids = await self._encode(request, served, caller, shares)
                        encoded[request.prompt] = ids
        except TimeoutError:
            raise WaitTimeout(
                f"the prompt was not made into tokens within {self._clock() - begun_at:.1f} s, "
                "when this request's time was over; send a shorter one, allow it more time, or try "
                "again later"
            ) from None
        return [
            self._task(request, served, encoded[request.prompt], caller, deadline)
            for request in requests
        ]

    async def _encode(
        self, request: GenerationRequest, served: ServedModel, caller: Caller, shares: Shares
    ) -> list[int]:
        """On the model's own threads. They hold a share of the key's limits as long as they work,
        though the caller may have left."""
        engine, prompt = served.loaded_engine, request.prompt
        max_context = engine.info.max_context
        try:
            return await served.loaded_preparation.run(
                partial(engine.tokenizer.encode, prompt, max_context),
                size=_size(prompt),
                caller=caller.name,
                priority=caller.priority,
                on_end=partial(shares.take(), 0),
            )
        except TooLong as error:
            max_tokens = _sampling(request, served).max_tokens or 1
            raise PromptTooLong(error.fewest, max_tokens, max_context, is_exact=False) from None

    def _task(
        self,
        request: GenerationRequest,
        served: ServedModel,
        prompt_ids: Sequence[int],
        caller: Caller,
        deadline: float,
    ) -> Task:
        info = served.loaded_engine.info
        if not prompt_ids:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        sampling = _sampling(request, served)
        room = info.max_context - len(prompt_ids)
        if room < 1:
            raise PromptTooLong(len(prompt_ids), sampling.max_tokens or 1, info.max_context)
        biased = [token_id for token_id, _ in sampling.logit_bias]
        served.loaded_engine.tokenizer.check(biased, param="logit_bias")
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
            prompt_ids=tuple(prompt_ids),
            sampling=sampling.under(info.rules),
            max_tokens=max_tokens,
            deadline=deadline,
            caller=caller.name,
            priority=caller.priority,
            cache_salt=request.cache_salt,
        )


def _sampling(request: GenerationRequest, served: ServedModel) -> SamplingParams:
    return SamplingParams.resolve(
        request.sampling,
        served.spec.sampling,
        _bounded(served.loaded_engine.info.sampling, request.defaults),
        request.defaults,
    )


def _bounded(recommended: SamplingFields, defaults: SamplingFields) -> SamplingFields:
    """A model's recommended `max_tokens` makes no answer longer than its transport does."""
    if recommended.max_tokens is None or defaults.max_tokens is None:
        return recommended
    return replace(recommended, max_tokens=min(recommended.max_tokens, defaults.max_tokens))


def _size(prompt: Prompt) -> int:
    """Characters of a text or a conversation; token ids, which cost less, count one each."""
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(part.content) if isinstance(part, Message) else 1 for part in prompt)
