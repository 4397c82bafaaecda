"""A session with LangChain's ChatOpenAI."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, URL, WISH, City, Trip, Unit, tell

SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "base_url": URL,
    "api_key": "none",
    "temperature": 0,
    "max_tokens": MAX_TOKENS,
    "max_retries": 0,
    "timeout": 60,
}
chat = ChatOpenAI(**SETTINGS, stream_usage=True)
ASKED = HumanMessage(QUESTION)


@tool
def get_weather(city: City, unit: Unit) -> str:
    """The weather in a city."""
    return RESULT


offered: dict[str, Any] = {"strict": True, "parallel_tool_calls": False}
forced = chat.bind_tools([get_weather], tool_choice=NAME, **offered)
required = chat.bind_tools([get_weather], tool_choice="required", **offered)
shown = chat.bind_tools([get_weather], tool_choice="none")


def call_of(message: AIMessage) -> dict[str, Any]:
    assert not message.invalid_tool_calls, message.invalid_tool_calls
    [call] = message.tool_calls
    return {
        "id": call["id"],
        "name": call["name"],
        "arguments": call["args"],
        "content": message.content or None,
        "finish_reason": message.response_metadata["finish_reason"],
        "usage": usage_of(message),
    }


def usage_of(message: AIMessage) -> dict[str, Any]:
    usage = message.usage_metadata
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }


def whole(chunks: Any) -> Any:
    """Chunks add up to a message."""
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


def answer_of(message: AIMessage) -> dict[str, Any]:
    return {
        "text": message.content,
        "finish_reason": message.response_metadata["finish_reason"],
        "usage": usage_of(message),
    }


async def asynchronous() -> AIMessage:
    return await required.ainvoke([ASKED])


def refused(ask: Any) -> dict[str, Any]:
    try:
        ask()
    except openai.BadRequestError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "param": error.param,
            "code": error.code,
        }
    raise AssertionError("it was not refused")


called = forced.invoke([ASKED])
[call] = called.tool_calls
result = get_weather.invoke(call)
assert isinstance(result, ToolMessage)
history = [ASKED, called, result]
plain = OpenAI(**SETTINGS | {"max_tokens": 8}, extra_body={"ignore_eos": True})
wrong = ChatOpenAI(**SETTINGS | {"temperature": -1})
tell(
    version=version("langchain-openai"),
    call=call_of(called),
    streamed_call=call_of(whole(forced.stream([ASKED]))),
    asynchronous_call=call_of(asyncio.run(asynchronous())),
    answer=answer_of(shown.invoke(history)),
    streamed_answer=answer_of(whole(shown.stream(history))),
    structured=chat.with_structured_output(Trip).invoke(WISH).model_dump(),
    streamed_structure=list(chat.with_structured_output(Trip).stream(WISH))[-1].model_dump(),
    structure_by_a_call=chat.with_structured_output(Trip, method="function_calling")
    .invoke(WISH)
    .model_dump(),
    text=plain.invoke(WISH),
    streamed_text="".join(plain.stream(WISH)),
    error=refused(lambda: wrong.invoke([ASKED])),
    streamed_error=refused(lambda: list(wrong.stream([ASKED]))),
)
