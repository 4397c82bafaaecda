"""A session with instructor, in each mode that an OpenAI-like server can serve."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import instructor
import openai
from instructor.core import InstructorRetryException
from task import MAX_TOKENS, MODEL, QUESTION, URL, WISH, Trip, Weather, tell

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=60)
CREATE: dict[str, Any] = {"model": MODEL, "max_tokens": MAX_TOKENS, "temperature": 0}
MODES: dict[instructor.Mode, dict[str, Any]] = {
    instructor.Mode.TOOLS: {"parallel_tool_calls": False},
    instructor.Mode.JSON_SCHEMA: {},
}


def ask(mode: instructor.Mode, form: Any, words: str, **more: Any) -> Any:
    return instructor.from_openai(client, mode=mode).create(
        **CREATE | MODES[mode] | more,
        messages=[{"role": "user", "content": words}],
        response_model=form,
        max_retries=1,
    )


def partial(mode: instructor.Mode) -> dict[str, Any]:
    """The form as it fills; the last one is whole."""
    parts = list(
        instructor.from_openai(client, mode=mode).create_partial(
            **CREATE | MODES[mode],
            messages=[{"role": "user", "content": WISH}],
            response_model=Trip,
        )
    )
    return {"parts": len(parts), "last": parts[-1].model_dump()}


def usage_of(mode: instructor.Mode) -> dict[str, Any]:
    _, completion = instructor.from_openai(client, mode=mode).create_with_completion(
        **CREATE | MODES[mode],
        messages=[{"role": "user", "content": WISH}],
        response_model=Trip,
        max_retries=1,
    )
    return completion.usage.to_dict()


def refused() -> dict[str, Any]:
    try:
        ask(instructor.Mode.TOOLS, Trip, WISH, temperature=-1)
    except (InstructorRetryException, openai.BadRequestError) as error:
        cause = error
        while not isinstance(cause, openai.BadRequestError):
            cause = cause.__cause__ or cause.args[0]
        return {
            "exception": type(error).__name__,
            "status": cause.status_code,
            "param": cause.param,
            "code": cause.code,
        }
    raise AssertionError("it was not refused")


tell(
    version=version("instructor"),
    weather={mode.name: ask(mode, Weather, QUESTION).model_dump() for mode in MODES},
    structured={mode.name: ask(mode, Trip, WISH).model_dump() for mode in MODES},
    partial={mode.name: partial(mode) for mode in MODES},
    usage={mode.name: usage_of(mode) for mode in MODES},
    error=refused(),
)
