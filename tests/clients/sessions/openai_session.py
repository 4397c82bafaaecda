"""A session with OpenAI's Python client, plain and asynchronous."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import openai
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, TOOL, URL, WISH, Trip, Weather, tell

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=60)
CREATE: dict[str, Any] = {"model": MODEL, "max_tokens": MAX_TOKENS, "temperature": 0}
NAMED = {"type": "function", "function": {"name": NAME}}
ASKED = [{"role": "user", "content": QUESTION}]
WISHED = [{"role": "user", "content": WISH}]


def call_of(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    [call] = choice.message.tool_calls
    return {
        "id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "content": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": completion.usage.to_dict(),
    }


def streamed_call(chunks: Iterable[Any]) -> dict[str, Any]:
    """Put together as OpenAI's guide does it: by index, the arguments as text."""
    call: dict[str, Any] = {"id": [], "name": [], "arguments": "", "content": None}
    pieces = 0
    for chunk in chunks:
        call |= {"usage": chunk.usage.to_dict()} if chunk.usage else {}
        for choice in chunk.choices:
            call |= {"finish_reason": choice.finish_reason} if choice.finish_reason else {}
            call["content"] = call["content"] or choice.delta.content or None
            for piece in choice.delta.tool_calls or []:
                assert piece.index == 0, piece
                pieces += 1
                call["id"] += [piece.id] if piece.id else []
                call["name"] += [piece.function.name] if piece.function.name else []
                call["arguments"] += piece.function.arguments or ""
    [call["id"]], [call["name"]] = call["id"], call["name"]
    return call | {"arguments": json.loads(call["arguments"]), "pieces": pieces}


def round_trip(*, stream: bool) -> dict[str, Any]:
    """The call as the client's own objects give it back, its result, and the answer."""
    first = client.chat.completions.create(
        **CREATE, messages=ASKED, tools=[TOOL], tool_choice=NAMED, parallel_tool_calls=False
    )
    said = first.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": RESULT}
    asked = {**CREATE, "messages": [*ASKED, said, result], "tools": [TOOL], "tool_choice": "none"}
    if not stream:
        answer = client.chat.completions.create(**asked)
        choice = answer.choices[0]
        return {
            "text": choice.message.content,
            "finish_reason": choice.finish_reason,
            "usage": answer.usage.to_dict(),
        }
    text, told = "", {}
    for chunk in client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        told |= {"usage": chunk.usage.to_dict()} if chunk.usage else {}
        for choice in chunk.choices:
            told |= {"finish_reason": choice.finish_reason} if choice.finish_reason else {}
            text += choice.delta.content or ""
    return {"text": text, **told}


def structured() -> dict[str, Any]:
    answer = client.chat.completions.parse(**CREATE, messages=WISHED, response_format=Trip)
    return answer.choices[0].message.parsed.model_dump()


def streamed_structure() -> dict[str, Any]:
    with client.chat.completions.stream(**CREATE, messages=WISHED, response_format=Trip) as events:
        for _ in events:
            pass
        return events.get_final_completion().choices[0].message.parsed.model_dump()


def parsed_call() -> dict[str, Any]:
    """A strict tool made from a pydantic model."""
    tool = openai.pydantic_function_tool(Weather, name=NAME)
    answer = client.chat.completions.parse(
        **CREATE, messages=ASKED, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    [call] = answer.choices[0].message.tool_calls
    return call.function.parsed_arguments.model_dump()


def refused(**wrong: Any) -> dict[str, Any]:
    try:
        client.chat.completions.create(**(CREATE | {"messages": ASKED} | wrong))
    except openai.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "param": error.param,
            "code": error.code,
            "type": error.type,
            "request_id": error.request_id,
        }
    raise AssertionError("it was not refused")


async def asynchronous() -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0, timeout=60) as aside:
        stream = await aside.chat.completions.create(
            **CREATE,
            messages=ASKED,
            tools=[TOOL],
            tool_choice="required",
            stream=True,
            stream_options={"include_usage": True},
            parallel_tool_calls=False,
        )
        return streamed_call([chunk async for chunk in stream])


tell(
    version=openai.__version__,
    models=[model.id for model in client.models.list()],
    model=client.models.retrieve(MODEL).to_dict(),
    call=call_of(
        client.chat.completions.create(
            **CREATE, messages=ASKED, tools=[TOOL], tool_choice=NAMED, parallel_tool_calls=False
        )
    ),
    streamed_call=streamed_call(
        client.chat.completions.create(
            **CREATE,
            messages=ASKED,
            tools=[TOOL],
            tool_choice=NAMED,
            stream=True,
            stream_options={"include_usage": True},
            parallel_tool_calls=False,
        )
    ),
    asynchronous_call=asyncio.run(asynchronous()),
    parsed_call=parsed_call(),
    answer=round_trip(stream=False),
    streamed_answer=round_trip(stream=True),
    structured=structured(),
    streamed_structure=streamed_structure(),
    error=refused(temperature=-1),
    streamed_error=refused(temperature=-1, stream=True),
    error_of_a_choice=refused(
        tools=[TOOL], tool_choice={"type": "function", "function": {"name": "x"}}
    ),
    error_of_a_schema=refused(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
        }
    ),
    unknown_model=refused(model="nobody"),
)
