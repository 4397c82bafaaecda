"""The response object: what was asked for, and what became of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.tools import AllowedTools, NamedFunction
from llmserve.domain import SamplingParams, Usage
from llmserve.errors import LLMServeError, RequestError, TooMany

PREFIX: Final = "resp_"


class Resource:
    """A response between its creation and its end.

    The id is ours, not the request's, which clients may choose: a stored response must not be
    replaced by another caller's.
    """

    def __init__(
        self, body: ResponseBody, model: str, sampling: SamplingParams, *, is_stored: bool = False
    ) -> None:
        self.hex = uuid.uuid4().hex
        self.id = PREFIX + self.hex
        self._created = int(time.time())
        self._asked = _asked(body, model, sampling) | {"store": is_stored}

    def item_id(self, prefix: str, index: int) -> str:
        """The id of an item, from which its response is known."""
        return f"{prefix}_{self.hex}_{index}"

    def told(
        self,
        status: str,
        output: Sequence[dict[str, Any]] = (),
        *,
        usage: Usage | None = None,
        error: LLMServeError | None = None,
        is_cut: bool = False,
    ) -> dict[str, Any]:
        """All of it. `is_cut`: it ended before the model was done."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None if error is None else error_body(error),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": list(output),
            "usage": None if usage is None else _usage(usage),
            **self._asked,
        }


def error_body(error: LLMServeError) -> dict[str, Any]:
    """The error of a response that failed, by the few codes that the reference has."""
    code = "invalid_prompt" if isinstance(error, RequestError) else "server_error"
    if isinstance(error, TooMany):
        code = "rate_limit_exceeded"
    return {"code": code, "message": error.message}


def _asked(body: ResponseBody, model: str, sampling: SamplingParams) -> dict[str, Any]:
    """What responses repeat of their request, with what stands where it was silent."""
    reasoning = body.reasoning
    return {
        "model": model,
        "background": bool(body.background),
        "conversation": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt": None,
        "prompt_cache_key": body.prompt_cache_key,
        "prompt_cache_retention": body.prompt_cache_retention,
        "reasoning": {
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": None,
        },
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "temperature": sampling.temperature,
        "text": body.text.told() if body.text is not None else _PLAIN,
        "tool_choice": _told_choice(body.tool_choice),
        "tools": [tool.told() for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


_PLAIN: Final = {"format": {"type": "text"}, "verbosity": None}


def _told_choice(choice: str | NamedFunction | AllowedTools | None) -> Any:
    match choice:
        case None:
            return "auto"
        case str():
            return choice
    return choice.model_dump()


def _usage(usage: Usage) -> dict[str, Any]:
    """`cached_tokens` of the input did not have to be computed."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
