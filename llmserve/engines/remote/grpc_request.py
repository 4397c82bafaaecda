"""A request as another llmserve is asked over gRPC, which can be told nearly all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Message,
    SamplingFields,
    Tool,
    ToolChoice,
    ToolMode,
)
from llmserve.errors import InvalidRequest
from llmserve.proto.v1 import generation_pb2 as pb

GRACE_SECONDS: Final = 5.0
"""Between the request's own end, at which there is an answer of what came, and the call's."""

ROLES: Final = {
    "system": pb.Message.ROLE_SYSTEM,
    "developer": pb.Message.ROLE_DEVELOPER,
    "user": pb.Message.ROLE_USER,
    "assistant": pb.Message.ROLE_ASSISTANT,
    "tool": pb.Message.ROLE_TOOL,
}
MODES: Final = {
    ToolMode.NONE: pb.ToolChoice.MODE_NONE,
    ToolMode.AUTO: pb.ToolChoice.MODE_AUTO,
    ToolMode.REQUIRED: pb.ToolChoice.MODE_REQUIRED,
}
NAMES: Final = {
    "includes_stop": "include_stop_in_output",
    "skips_special_tokens": "skip_special_tokens",
    "thinking_budget": "thinking_token_budget",
}
"""Fields of `SamplingFields` that have another name there."""

Sent = pb.GenerateRequest | pb.ChatRequest


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """What is sent, and how long the call may take; `None` for as long as the server allows."""

    message: Sent
    timeout_seconds: float | None


def write(request: GenerationRequest, model: str, operators: SamplingFields) -> GrpcRequest:
    """The message for it. `operators` is the sampling of the manifest, where a request is silent.

    Raises:
        InvalidRequest: one of its fields asks for what does not come back.
    """
    _check(request)
    options = _options(request, operators)
    prompt = request.prompt
    message: Sent
    if isinstance(prompt, Conversation):
        message = _chat(prompt, request.tool_choice, model, options)
    else:
        message = pb.GenerateRequest(model=model, options=options)
        if isinstance(prompt, str):
            message.text = prompt
            message.add_special_tokens = request.adds_special_tokens
        else:
            message.token_ids.ids.extend(prompt)
    seconds = request.timeout_seconds
    return GrpcRequest(message, None if seconds is None else seconds + GRACE_SECONDS)


def _check(request: GenerationRequest) -> None:
    param = request.shows_token_ids
    if request.sampling.prompt_logprobs is not None:
        param = "prompt_logprobs"
    if request.sampling.max_tokens == 0:
        param = "max_tokens"
    if param:
        raise InvalidRequest(
            f"{param} cannot be served: the model is on another server, which is asked for new "
            "text only; leave it out",
            param=param,
        )


def _options(request: GenerationRequest, operators: SamplingFields) -> pb.Options:
    options = pb.Options(
        sampling=_sampling(request.sampling, operators),
        defaults=_sampling(request.defaults),
        require_reasoning=request.requires_reasoning,
        max_prompt_tokens=request.max_prompt_tokens,
        cache_salt=request.cache_salt or None,
    )
    if request.constraint is not None:
        options.constraint.CopyFrom(_constraint(request.constraint))
    return options


def _sampling(*layers: SamplingFields) -> pb.Sampling:
    """The first layer that sets a field decides it."""
    message = pb.Sampling()
    for name in SamplingFields.__dataclass_fields__:
        values = (getattr(layer, name) for layer in layers)
        value: Any = next((v for v in values if v is not None), None)
        if name == "logit_bias":
            message.logit_bias.update(dict(value or ()))
        elif isinstance(value, tuple):
            getattr(message, name).extend(value)
        elif value is not None:
            setattr(message, NAMES.get(name, name), value)
    return message


def _constraint(constraint: Constraint) -> pb.Constraint:
    source = constraint.source
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return pb.Constraint(json_schema=source)
        case ConstraintKind.JSON_OBJECT:
            return pb.Constraint(json_object=True)
        case ConstraintKind.REGEX:
            return pb.Constraint(regex=source)
        case ConstraintKind.CHOICE:
            return pb.Constraint(choice=pb.Constraint.Choice(texts=orjson.loads(source)))
        case ConstraintKind.GRAMMAR:
            return pb.Constraint(grammar=source)


def _chat(
    prompt: Conversation, choice: ToolChoice, model: str, options: pb.Options
) -> pb.ChatRequest:
    return pb.ChatRequest(
        model=model,
        messages=map(_message, prompt.messages),
        tools=map(_tool, prompt.tools),
        # Without tools there is nothing to choose; a model is not shown those of the choice `none`.
        tool_choice=_choice(choice) if prompt.tools else None,
        template_options=prompt.template_options,
        add_generation_prompt=prompt.has_generation_prompt,
        continue_final_message=prompt.continues_last,
        options=options,
    )


def _message(message: Message) -> pb.Message:
    calls = (
        pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments)
        for call in message.tool_calls
    )
    return pb.Message(
        role=ROLES[message.role],
        content=message.content,
        name=message.name,
        reasoning=message.reasoning,
        tool_calls=calls,
        tool_call_id=message.tool_call_id,
    )


def _tool(tool: Tool) -> pb.Tool:
    return pb.Tool(
        name=tool.name,
        definition=tool.definition,
        parameters=tool.parameters,
        strict=tool.is_strict,
    )


def _choice(choice: ToolChoice) -> pb.ToolChoice:
    return pb.ToolChoice(mode=MODES[choice.mode], names=choice.names, parallel=choice.is_parallel)
