"""A session with Anthropic's Python client, plain and asynchronous.

Arguments: URL, MODEL, and a model that thinks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import anthropic
from anthropic import beta_tool
from anthropic.types import RawMessageStreamEvent
from pydantic import BaseModel, TypeAdapter

URL, MODEL, THINKER = sys.argv[1:4]
OPTIONS: dict[str, Any] = {"base_url": URL, "api_key": "none", "max_retries": 0, "timeout": 60}
client = anthropic.Anthropic(**OPTIONS)
# This version of the client has no field for the temperature.
CREATE: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "extra_body": {"temperature": 0}}
KNOWN = "How do I warm a model?"
QUESTION = "What is the weather in Paris?"
RESULT = json.dumps({"degrees": 18, "sky": "sunny"})
WISH = "Fill in name and age as JSON: Anna is 7 years old."
TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "cache_control": {"type": "ephemeral"},
}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def told(message: Any) -> dict[str, Any]:
    """All but what differs from one answer to the next: the message's own id, and the cache."""
    body = message.to_dict()
    usage = body["usage"]
    return {
        "content": body["content"],
        "stop_reason": body["stop_reason"],
        "stop_sequence": body["stop_sequence"],
        "input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"],
        "output_tokens": usage["output_tokens"],
        "thinking_tokens": usage["output_tokens_details"]["thinking_tokens"],
        "has_ids": body["id"].startswith("msg_") and bool(message._request_id),
    }


def raw(**asked: Any) -> list[dict[str, Any]]:
    """Every event of a stream, checked by the client's own types."""
    events = client.messages.create(**CREATE | asked, stream=True)
    return [EVENT.validate_python(event.to_dict(), extra="forbid").to_dict() for event in events]


def streamed(**asked: Any) -> dict[str, Any]:
    """What the helper puts together, and which events it made of it."""
    with client.messages.stream(**CREATE | asked) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
        message._request_id = stream.request_id
    return told(message) | {"kinds": kinds}


def round_trip(create: Callable[..., Any]) -> list[dict[str, Any]]:
    """A call, as the client's own objects give it back, its result, and the answer."""
    asked = {**CREATE, "tools": [TOOL], "system": [{"type": "text", "text": "You are helpful."}]}
    called = create(**asked, messages=user(QUESTION))
    [call] = [block for block in called.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": RESULT}
    said = {"role": "assistant", "content": called.content}
    answer = create(**asked, messages=[*user(QUESTION), said, *user([result])])
    return [call.to_dict(), told(called), told(answer)]


def create_by_stream(**asked: Any) -> Any:
    with client.messages.stream(**asked) as stream:
        message = stream.get_final_message()
        message._request_id = stream.request_id
    return message


def ran_tools() -> dict[str, Any]:
    """The client runs the tool itself."""
    given: list[str] = []

    @beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        given.append(city)
        return RESULT

    runner = client.beta.messages.tool_runner(
        **CREATE, tools=[get_weather], messages=user(QUESTION)
    )
    last = runner.until_done()
    return {"given": given, "text": last.content[0].text}


async def asynchronous() -> dict[str, Any]:
    async with anthropic.AsyncAnthropic(**OPTIONS) as aside:
        async with aside.messages.stream(**CREATE, messages=user(KNOWN)) as stream:
            text = "".join([piece async for piece in stream.text_stream])
        count = await aside.messages.count_tokens(model=MODEL, messages=user(KNOWN))
        return {"text": text, "input_tokens": count.input_tokens}


def thinking(**asked: Any) -> dict[str, Any]:
    """One thought, sent back, and the answer to that."""
    wanted = {"thinking": {"type": "enabled", "budget_tokens": 8}} | asked
    create = {**CREATE, "model": THINKER, "max_tokens": 40, **wanted}
    first = client.messages.create(**create, messages=user("hi"))
    said = {"role": "assistant", "content": first.content or "ho"}
    again = client.messages.create(**create, messages=[*user("hi"), said, *user("and?")])
    return {"first": told(first), "again": told(again), "raw": raw(**create, messages=user("hi"))}


def refused(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        answer = ask()
        list(answer if isinstance(answer, Iterable) else ())
    except anthropic.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "type": error.type,
            "message": error.api_message,
            "code": error.error_code,
            "has_id": error.request_id == error.body["request_id"],
        }
    raise AssertionError("it was not refused")


def refused_message(**wrong: Any) -> dict[str, Any]:
    return refused(lambda: client.messages.create(**CREATE | {"messages": user("hi")} | wrong))


print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "models": [model.id for model in client.models.list()],
            "model": client.models.retrieve(MODEL).to_dict(mode="json"),
            "answer": told(client.messages.create(**CREATE, messages=user(KNOWN))),
            "streamed_answer": streamed(messages=user(KNOWN)),
            "raw": raw(messages=user(KNOWN)),
            "raw_call": raw(messages=user(QUESTION), tools=[TOOL]),
            "cut": told(client.messages.create(**CREATE | {"max_tokens": 3}, messages=user(KNOWN))),
            "stopped": streamed(messages=user(KNOWN), stop_sequences=["model.toml"]),
            "begun": told(
                client.messages.create(
                    **CREATE,
                    messages=[*user(KNOWN), {"role": "assistant", "content": "List warm-up"}],
                )
            ),
            "forced": told(
                client.messages.create(
                    **CREATE,
                    messages=user(KNOWN),
                    tools=[
                        TOOL
                        | {
                            "input_schema": {
                                **TOOL["input_schema"],
                                "properties": {"city": {"enum": ["Oslo", "Rome"]}},
                            }
                        }
                    ],
                    tool_choice={"type": "any", "disable_parallel_tool_use": True},
                )
            ),
            "round_trip": round_trip(client.messages.create),
            "streamed_round_trip": round_trip(create_by_stream),
            "ran_tools": ran_tools(),
            "parsed": client.messages.parse(
                **CREATE, messages=user(WISH), output_format=Person
            ).parsed_output.model_dump(),
            "asynchronous": asyncio.run(asynchronous()),
            "count": client.messages.count_tokens(model=MODEL, messages=user(KNOWN)).input_tokens,
            "thinking": thinking(),
            "silent_thinking": thinking(
                thinking={"type": "enabled", "budget_tokens": 8, "display": "omitted"}
            ),
            "no_thinking": thinking(thinking={"type": "disabled"}),
            "error": refused_message(extra_body={"temperature": 2}),
            "streamed_error": refused_message(extra_body={"temperature": 2}, stream=True),
            "image": refused_message(
                messages=user([{"type": "image", "source": {"type": "url", "url": "x"}}])
            ),
            "server_tool": refused_message(
                tools=[{"type": "web_search_20250305", "name": "web_search"}]
            ),
            "unknown_model": refused_message(model="nobody"),
            "batches": refused(lambda: client.messages.batches.list()),
            "too_long": refused_message(messages=user("long " * 2000)),
        }
    )
)
