"""A session with OpenAI's Python client and the Responses API."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, TOOL, URL, WISH, Trip, Weather, tell

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=60)
CREATE: dict[str, Any] = {"model": MODEL, "max_output_tokens": MAX_TOKENS, "temperature": 0}
FLAT = {"type": "function", **TOOL["function"], "strict": True}
FORCED: dict[str, Any] = {
    "tools": [FLAT],
    "tool_choice": {"type": "function", "name": NAME},
    "parallel_tool_calls": False,
}
THINKER = "thinker"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def usage_of(response: Response) -> dict[str, int]:
    """By the names that chats have."""
    usage = response.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def call_of(response: Response) -> dict[str, Any]:
    [call] = [item for item in response.output if item.type == "function_call"]
    return {
        "id": call.call_id,
        "name": call.name,
        "arguments": json.loads(call.arguments),
        "content": response.output_text or None,
        "finish_reason": "tool_calls",
        "usage": usage_of(response),
        "status": response.status,
    }


def answer_of(response: Response) -> dict[str, Any]:
    return {
        "text": response.output_text,
        "finish_reason": "stop" if response.status == "completed" else "length",
        "usage": usage_of(response),
    }


def streamed(**asked: Any) -> tuple[Response, list[str]]:
    """The last response of a stream, and its events' types; each event is checked strictly."""
    types, last = [], None
    for number, event in enumerate(client.responses.create(**(CREATE | asked), stream=True)):
        EVENT.validate_python(event.to_dict())
        assert event.sequence_number == number
        types.append(event.type)
        last = event
    return last.response, types


def accumulated(**asked: Any) -> Response:
    """By the client's own accumulator."""
    with client.responses.stream(**CREATE, **asked) as events:
        for _ in events:
            pass
        return events.get_final_response()


def round_trip(*, stream: bool, store: bool) -> dict[str, Any]:
    """A call, its result, and the answer: after the stored response, or with all items again."""
    first = client.responses.create(**CREATE, **FORCED, input=QUESTION, store=store)
    [call] = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    asked: dict[str, Any] = {"tools": [FLAT], "tool_choice": "none", "store": store}
    if store:
        asked |= {"input": [result], "previous_response_id": first.id}
    else:
        asked["input"] = [{"role": "user", "content": QUESTION}, *first.output, result]
    if stream:
        return answer_of(streamed(**asked)[0])
    return answer_of(client.responses.create(**CREATE, **asked))


def parsed_call() -> dict[str, Any]:
    """A strict tool made from a pydantic model."""
    tool = openai.pydantic_function_tool(Weather, name=NAME)
    flat = {"type": "function", **tool["function"]}
    answer = client.responses.parse(**CREATE, **(FORCED | {"tools": [flat]}), input=QUESTION)
    [call] = answer.output
    return call.parsed_arguments


def in_background() -> dict[str, Any]:
    begun = client.responses.create(**CREATE, input=QUESTION, background=True)
    told = begun
    deadline = time.monotonic() + 60
    while told.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        told = client.responses.retrieve(begun.id)
    items = client.responses.input_items.list(begun.id)
    said = [item.content[0].text for item in items]
    client.responses.delete(begun.id)
    endless = client.responses.create(
        model=MODEL, input=QUESTION, background=True, extra_body={"ignore_eos": True}
    )
    cancelled = client.responses.cancel(endless.id)
    return {
        "begun": begun.status,
        "ended": told.status,
        "text": told.output_text,
        "input": said,
        "gone": refused(lambda: client.responses.retrieve(begun.id)),
        "cancelled": cancelled.status,
        "stays": client.responses.retrieve(endless.id).status,
    }


def refused(ask: Any) -> dict[str, Any]:
    try:
        ask()
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


def refusal(**wrong: Any) -> dict[str, Any]:
    return refused(lambda: client.responses.create(**(CREATE | {"input": QUESTION} | wrong)))


async def asynchronous() -> dict[str, Any]:
    async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0, timeout=60) as aside:
        stream = await aside.responses.create(**CREATE, **FORCED, input=QUESTION, stream=True)
        events = [event async for event in stream]
        return call_of(events[-1].response)


called, types_of_call = streamed(**FORCED, input=QUESTION)
written, types_of_text = streamed(input=QUESTION)
thought, types_of_thought = streamed(model=THINKER, input=QUESTION, max_output_tokens=8)
scored = client.responses.create(
    **CREATE, input=QUESTION, include=["message.output_text.logprobs"], top_logprobs=2
)
cut = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=1)

tell(
    version=openai.__version__,
    call=call_of(client.responses.create(**CREATE, **FORCED, input=QUESTION)),
    streamed_call=call_of(called),
    accumulated_call=call_of(accumulated(**FORCED, input=QUESTION)),
    asynchronous_call=asyncio.run(asynchronous()),
    parsed_call=parsed_call(),
    types_of_call=types_of_call,
    types_of_text=types_of_text,
    thought=[item.to_dict() for item in thought.output],
    thinking_tokens=thought.usage.output_tokens_details.reasoning_tokens,
    types_of_thought=types_of_thought,
    text=answer_of(client.responses.create(**CREATE, input=QUESTION)),
    streamed_text=answer_of(written),
    answer=round_trip(stream=False, store=False),
    streamed_answer=round_trip(stream=True, store=False),
    stored_answer=round_trip(stream=False, store=True),
    streamed_stored_answer=round_trip(stream=True, store=True),
    structured=client.responses.parse(
        **CREATE, input=WISH, text_format=Trip
    ).output_parsed.model_dump(),
    streamed_structure=accumulated(input=WISH, text_format=Trip).output_parsed.model_dump(),
    logprobs=[len(token.top_logprobs) for token in scored.output[0].content[0].logprobs],
    scored_tokens=scored.usage.output_tokens,
    cut=[cut.status, cut.incomplete_details.reason, cut.output[0].status],
    background=in_background(),
    counted=client.responses.input_tokens.count(model=MODEL, input=QUESTION).input_tokens,
    counted_by_use=client.responses.create(**CREATE, input=QUESTION).usage.input_tokens,
    error=refusal(temperature=-1),
    streamed_error=refusal(temperature=-1, stream=True),
    error_of_a_tool=refusal(tools=[{"type": "web_search"}]),
    error_of_a_choice=refusal(tools=[FLAT], tool_choice={"type": "function", "name": "x"}),
    error_of_a_schema=refusal(
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "nonsense"}}}
    ),
    error_of_an_image=refusal(
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]
    ),
    error_of_the_previous=refusal(previous_response_id="resp_x"),
    unknown_model=refusal(model="nobody"),
)
