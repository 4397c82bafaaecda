"""From messages to requests. What is missing, unknown or out of range is refused by its name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import orjson

from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Prompt,
    ToolChoice,
    ToolMode,
)
from llmserve.domain.offered_tools import check_call_or_format, check_choice
from llmserve.domain.request import WHATEVER_FITS
from llmserve.errors import InvalidRequest
from llmserve.grpc.conversation import check_object, message_of, tools_of
from llmserve.grpc.sampling import MAX_TOKENS, sampling_of
from llmserve.proto.v1 import generation_pb2 as pb

MAX_CHOICES: Final = 4096
MAX_SALT: Final = 256
MAX_SECONDS: Final = 1e9

Request = pb.GenerateRequest | pb.ChatRequest

KINDS: Final = {
    "json_schema": ConstraintKind.JSON_SCHEMA,
    "json_object": ConstraintKind.JSON_OBJECT,
    "regex": ConstraintKind.REGEX,
    "choice": ConstraintKind.CHOICE,
    "grammar": ConstraintKind.GRAMMAR,
}

MODES: Final = {
    pb.ToolChoice.MODE_UNSPECIFIED: ToolMode.AUTO,
    pb.ToolChoice.MODE_NONE: ToolMode.NONE,
    pb.ToolChoice.MODE_AUTO: ToolMode.AUTO,
    pb.ToolChoice.MODE_REQUIRED: ToolMode.REQUIRED,
}


def request_of(
    sent: Request, request_id: str, seconds_left: float | None, max_json_depth: int
) -> GenerationRequest:
    """As the service takes it. `seconds_left` is until the call's deadline.

    Raises:
        InvalidRequest: it cannot be served; names the field.
    """
    choice = ToolChoice()
    if isinstance(sent, pb.ChatRequest):
        choice = _choice(sent)
        prompt: Prompt = _conversation(sent, choice, max_json_depth)
    else:
        prompt = _raw_prompt(sent)
    options = sent.options
    constraint = _constraint(options, max_json_depth)
    try:
        check_call_or_format(choice, constraint)
    except ValueError as error:
        raise InvalidRequest(str(error), param="tool_choice") from None
    request = GenerationRequest(
        id=request_id,
        prompt=prompt,
        model=sent.model if sent.HasField("model") else None,
        sampling=sampling_of(options.sampling, "options.sampling"),
        defaults=sampling_of(options.defaults, "options.defaults"),
        timeout_seconds=_timeout(options, seconds_left),
        cache_salt=_salt(options),
        constraint=constraint,
        tool_choice=choice,
        max_prompt_tokens=_max_prompt_tokens(options),
        requires_reasoning=not options.HasField("require_reasoning") or options.require_reasoning,
    )
    if isinstance(sent, pb.GenerateRequest) and sent.HasField("add_special_tokens"):
        return replace(request, adds_special_tokens=sent.add_special_tokens)
    return request


def _raw_prompt(sent: pb.GenerateRequest) -> Prompt:
    match sent.WhichOneof("prompt"):
        case "text":
            return sent.text
        case "token_ids":
            return tuple(sent.token_ids.ids)
    raise InvalidRequest("there is no prompt; send text or token_ids", param="prompt")


def _conversation(sent: pb.ChatRequest, choice: ToolChoice, max_json_depth: int) -> Conversation:
    if not sent.messages:
        raise InvalidRequest("there are no messages; send at least one", param="messages")
    messages = tuple(
        message_of(message, f"messages[{n}]") for n, message in enumerate(sent.messages)
    )
    if not any(message.content or message.tool_calls for message in messages):
        raise InvalidRequest("every message is empty", param="messages")
    tools = tools_of(sent.tools, max_json_depth)
    try:
        check_choice(choice, {tool.name for tool in tools})
    except ValueError as error:
        raise InvalidRequest(str(error), param="tool_choice") from None
    options = "{}"
    if sent.HasField("template_options"):
        options = check_object(sent.template_options, "template_options", max_json_depth)
    is_continued = sent.continue_final_message
    opens_answer = not sent.HasField("add_generation_prompt") or sent.add_generation_prompt
    if is_continued and sent.HasField("add_generation_prompt") and opens_answer:
        raise InvalidRequest(
            "continue_final_message goes on in the last message and add_generation_prompt begins "
            "a new one; send one of them",
            param="continue_final_message",
        )
    return Conversation(
        messages=messages,
        tools=() if choice.mode is ToolMode.NONE else tools,
        template_options=options,
        has_generation_prompt=opens_answer and not is_continued,
        continues_last=is_continued,
    )


def _choice(sent: pb.ChatRequest) -> ToolChoice:
    sent_choice = sent.tool_choice
    mode = MODES.get(sent_choice.mode)
    if mode is None:
        raise InvalidRequest(
            f"this server does not know the mode {sent_choice.mode}", param="tool_choice.mode"
        )
    return ToolChoice(
        mode,
        names=tuple(dict.fromkeys(sent_choice.names)),
        is_parallel=not sent_choice.HasField("parallel") or sent_choice.parallel,
    )


def _constraint(options: pb.Options, max_json_depth: int) -> Constraint | None:
    if not options.HasField("constraint"):
        return None
    sent, param = options.constraint, "options.constraint"
    name = sent.WhichOneof("kind")
    if name is None:
        raise InvalidRequest(
            "the constraint is empty, or of a kind that this server does not know", param=param
        )
    param = f"{param}.{name}"
    source = ""
    match name:
        case "json_schema" | "regex" | "grammar":
            source = getattr(sent, name)
            if not source:
                raise InvalidRequest(f"{name} is empty", param=param)
        case "choice":
            source = _choices(sent.choice, param)
        case _ if not sent.json_object:
            raise InvalidRequest("json_object is true, or absent", param=param)
    if name == "json_schema":
        check_object(source, param, max_json_depth)
    return Constraint(KINDS[name], source, param)


def _choices(sent: pb.Constraint.Choice, param: str) -> str:
    texts = list(sent.texts)
    if not 0 < len(texts) <= MAX_CHOICES or not all(texts):
        raise InvalidRequest(f"send 1 to {MAX_CHOICES:,} texts, none of them empty", param=param)
    return orjson.dumps(texts).decode()


def _timeout(options: pb.Options, seconds_left: float | None) -> float | None:
    if not options.HasField("timeout_seconds"):
        return seconds_left
    seconds = options.timeout_seconds
    if not (0 < seconds <= MAX_SECONDS):
        raise InvalidRequest(
            "timeout_seconds must be a positive number", param="options.timeout_seconds"
        )
    return min(seconds, math.inf if seconds_left is None else seconds_left)


def _salt(options: pb.Options) -> str:
    if not options.HasField("cache_salt"):
        return ""
    if not 0 < len(options.cache_salt) <= MAX_SALT:
        raise InvalidRequest(
            f"cache_salt has 1 to {MAX_SALT} characters", param="options.cache_salt"
        )
    return options.cache_salt


def _max_prompt_tokens(options: pb.Options) -> int | None:
    if not options.HasField("max_prompt_tokens"):
        return None
    most = options.max_prompt_tokens
    if most != WHATEVER_FITS and not 1 <= most <= MAX_TOKENS:
        raise InvalidRequest(
            "max_prompt_tokens is a positive number, or -1 for what fits",
            param="options.max_prompt_tokens",
        )
    return most
