"""Sessions of LangChain, pydantic-ai and litellm with the Responses API."""

from __future__ import annotations

from typing import Any

import litellm
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, TOOL, URL, WISH, Trip, tell

FLAT = {"type": "function", **TOOL["function"]}
BY_NAME = {"type": "function", "name": NAME}


def langchain() -> dict[str, Any]:
    """A call, its result and the answer; a form; a stream."""
    model = ChatOpenAI(
        base_url=URL,
        api_key="none",
        model=MODEL,
        temperature=0,
        max_tokens=MAX_TOKENS,
        use_responses_api=True,
        max_retries=0,
    )
    forced = model.bind_tools([TOOL], tool_choice=NAME, parallel_tool_calls=False)
    said = forced.invoke(QUESTION)
    [call] = said.tool_calls
    result = ToolMessage(RESULT, tool_call_id=call["id"])
    free = model.bind_tools([TOOL], tool_choice="none")
    history = [HumanMessage(QUESTION), said, result]
    return {
        "arguments": call["args"],
        "answer": free.invoke(history).text,
        "streamed_answer": "".join(chunk.text for chunk in free.stream(history)),
        "trip": model.with_structured_output(Trip).invoke(WISH).model_dump(),
    }


def pydantic_ai() -> dict[str, Any]:
    """An agent without tools: its output has a form."""
    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key="none"))
    settings = {"temperature": 0, "max_tokens": MAX_TOKENS, "parallel_tool_calls": False}
    agent = Agent(model, output_type=Trip, model_settings=settings)
    return {"trip": agent.run_sync(WISH).output.model_dump()}


def of_litellm() -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": f"openai/{MODEL}",
        "api_base": URL,
        "api_key": "none",
        "input": QUESTION,
        "max_output_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    whole = litellm.responses(**asked)
    *_, last = litellm.responses(**asked, stream=True)
    called = litellm.responses(
        **asked, tools=[FLAT], tool_choice=BY_NAME, parallel_tool_calls=False
    )
    return {
        "text": whole.output[0].content[0].text,
        "streamed_text": last.response.output[0].content[0].text,
        "call": called.output[0].name,
    }


tell(langchain=langchain(), pydantic_ai=pydantic_ai(), litellm=of_litellm())
