"""POST /v1/chat/completions and POST /v1/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from llmserve.api.container import TheCaller, TheContainer, identify
from llmserve.api.edge.disconnect import unless_client_leaves
from llmserve.api.edge.json import JSON
from llmserve.api.edge.route import keyed_route
from llmserve.api.edge.timeouts import HeaderTimeout, earliest
from llmserve.api.ignored import tell_ignored
from llmserve.api.openai.dialect import Chat, Completion, Dialect, Envelope, whole_body
from llmserve.api.openai.schemas import ChatBody, CompletionBody, OpenAIBody
from llmserve.api.openai.streaming import chunks
from llmserve.api.sse import stream_response
from llmserve.bootstrap import Container
from llmserve.domain import GenerationRequest, Prompt, SamplingFields
from llmserve.errors import InvalidRequest
from llmserve.service import Answer, Generation

router = APIRouter(prefix="/v1", route_class=keyed_route(identify), tags=["openai"])

CHAT_DEFAULTS: Final = SamplingFields(temperature=1.0)
COMPLETION_DEFAULTS: Final = SamplingFields(temperature=1.0, max_tokens=16)

MANY_MESSAGES: Final = 4096
"""Over it, they are converted in a thread: a body of 4 MB can have 140,000."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose generations hold their tickets."""

    body: OpenAIBody
    generations: Sequence[Generation]


async def open_chat(
    body: ChatBody,
    request: Request,
    container: TheContainer,
    caller: TheCaller,
    timeout: HeaderTimeout,
) -> AsyncIterator[Opened]:
    """Take the tickets of a chat; given back on every way out of the request."""
    tell_ignored(body, request, container, caller)
    is_long = len(body.messages) > MANY_MESSAGES
    prompt = await asyncio.to_thread(body.prompt) if is_long else body.prompt()
    wanted = GenerationRequest(
        id=request.scope["request_id"],
        prompt=prompt,
        model=body.model,
        sampling=body.fields(),
        defaults=CHAT_DEFAULTS,
        timeout_seconds=earliest(body.timeout, timeout),
        cache_salt=body.cache_salt or "",
    )
    requests = _spread(wanted, [prompt], body.choices_per_prompt, container)
    async with container.service.open_all(requests, caller) as generations:
        yield Opened(body, generations)


async def open_completion(
    body: CompletionBody,
    request: Request,
    container: TheContainer,
    caller: TheCaller,
    timeout: HeaderTimeout,
) -> AsyncIterator[Opened]:
    """Take the tickets of a completion; given back on every way out of the request."""
    tell_ignored(body, request, container, caller)
    prompts = body.prompts()
    wanted = GenerationRequest(
        id=request.scope["request_id"],
        prompt=prompts[0],
        model=body.model,
        sampling=body.fields(),
        defaults=COMPLETION_DEFAULTS,
        timeout_seconds=earliest(body.timeout, timeout),
        cache_salt=body.cache_salt or "",
    )
    requests = _spread(wanted, prompts, body.choices_per_prompt, container)
    async with container.service.open_all(requests, caller) as generations:
        yield Opened(body, generations)


@router.post("/chat/completions", response_class=Response)
async def chat_completions(
    request: Request, container: TheContainer, opened: Annotated[Opened, Depends(open_chat)]
) -> Response:
    """Continue a conversation."""
    return await _respond(Chat(), opened, request, container)


@router.post("/completions", response_class=Response)
async def completions(
    request: Request, container: TheContainer, opened: Annotated[Opened, Depends(open_completion)]
) -> Response:
    """Continue one or several prompts."""
    return await _respond(Completion(), opened, request, container)


def _spread(
    wanted: GenerationRequest, prompts: Sequence[Prompt], choices: int, container: Container
) -> list[GenerationRequest]:
    """One request per prompt and choice; the choices of a seeded request differ, reproducibly."""
    count, most = len(prompts) * choices, container.settings.max_prompts_per_request
    if count > most:
        raise InvalidRequest(
            f"prompts × n is {count} and this server takes {most} per request; split it", param="n"
        )
    seed = wanted.sampling.seed
    return [
        replace(
            wanted,
            prompt=prompt,
            sampling=replace(wanted.sampling, seed=None if seed is None else seed + i),
        )
        for prompt in prompts
        for i in range(choices)
    ]


async def _respond(
    dialect: Dialect, opened: Opened, request: Request, container: Container
) -> Response:
    body, generations = opened.body, opened.generations
    envelope = Envelope(dialect, generations[0].id, generations[0].model)
    if body.stream:
        frames = chunks(
            envelope,
            generations,
            choices_per_prompt=body.choices_per_prompt,
            wants_usage=body.wants_usage,
        )
        return stream_response(frames, container)
    answers = await unless_client_leaves(request, _collect(generations))

    def whole() -> Response:
        return JSON(whole_body(envelope, generations, answers, body.choices_per_prompt))

    # The log probabilities of a long answer are megabytes, and others' streams must not wait.
    has_logprobs = any(answer.logprobs for answer in answers)
    return await asyncio.to_thread(whole) if has_logprobs else whole()


async def _collect(generations: Sequence[Generation]) -> list[Answer]:
    """All answers. The generations run on their own; only the reading takes turns."""
    return [await generation.collect() for generation in generations]
