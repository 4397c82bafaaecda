"""A session with litellm, under the names of its providers for servers like this."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import Any

import litellm
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, TOOL, URL, WISH, Trip, tell

litellm.telemetry = False
ASKED = [{"role": "user", "content": QUESTION}]
WISHED = [{"role": "user", "content": WISH}]
FORCED: dict[str, Any] = {
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": NAME}},
    "parallel_tool_calls": False,
}


def create(provider: str, **asked: Any) -> dict[str, Any]:
    wanted = {"temperature": 0, "max_tokens": MAX_TOKENS, "timeout": 60, "max_retries": 0}
    base = URL.removesuffix("/v1") if provider == "anthropic" else URL
    return wanted | {"model": f"{provider}/{MODEL}", "api_base": base, "api_key": "none"} | asked


def call_of(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    [call] = choice.message.tool_calls
    return {
        "id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "content": choice.message.content or None,
        "finish_reason": choice.finish_reason,
        "usage": usage_of(completion),
    }


def usage_of(completion: Any) -> dict[str, Any]:
    kinds = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {kind: getattr(completion.usage, kind) for kind in kinds}


def streamed(provider: str, **asked: Any) -> Any:
    """The whole completion, as litellm itself puts it together."""
    chunks = list(
        litellm.completion(
            **create(provider, **asked), stream=True, stream_options={"include_usage": True}
        )
    )
    return litellm.stream_chunk_builder(chunks)


def answer_of(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    return {
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": usage_of(completion),
    }


def refused(provider: str, **asked: Any) -> dict[str, Any]:
    try:
        answer = litellm.completion(**create(provider, messages=ASKED, temperature=-1, **asked))
        list(answer)
    except litellm.BadRequestError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "names_it": "temperature" in error.message,
        }
    raise AssertionError("it was not refused")


def calls(provider: str) -> dict[str, Any]:
    called = litellm.completion(**create(provider, messages=ASKED, **FORCED))
    said = called.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": RESULT}
    history = {"messages": [*ASKED, said, result], "tools": [TOOL], "tool_choice": "none"}
    return {
        "call": call_of(called),
        "streamed_call": call_of(streamed(provider, messages=ASKED, **FORCED)),
        "asynchronous_call": call_of(
            asyncio.run(litellm.acompletion(**create(provider, messages=ASKED, **FORCED)))
        ),
        "answer": answer_of(litellm.completion(**create(provider, **history))),
        "streamed_answer": answer_of(streamed(provider, **history)),
    }


def forms(provider: str) -> dict[str, Any]:
    wished = {"messages": WISHED, "response_format": Trip}
    return {
        "structured": json.loads(
            litellm.completion(**create(provider, **wished)).choices[0].message.content
        ),
        "streamed_structure": json.loads(streamed(provider, **wished).choices[0].message.content),
    }


def errors(provider: str) -> dict[str, Any]:
    return {"error": refused(provider), "streamed_error": refused(provider, stream=True)}


tell(
    version=version("litellm"),
    # For hosted_vllm it drops `additionalProperties: false` from tools: calls may never end.
    calls={provider: calls(provider) for provider in ("openai", "anthropic")},
    # For anthropic it makes a tool of a form, whose `$defs` then are where no pointer finds them.
    forms={provider: forms(provider) for provider in ("openai", "hosted_vllm")},
    errors={provider: errors(provider) for provider in ("openai", "hosted_vllm", "anthropic")},
)
