"""A session with pydantic-ai: agents, and single requests by its models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic_ai import Agent, ModelHTTPError, ModelSettings, NativeOutput, ToolOutput
from pydantic_ai.direct import model_request_stream_sync, model_request_sync
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import RunContext, ToolDefinition
from task import MAX_TOKENS, MODEL, NAME, QUESTION, RESULT, TOOL, URL, WISH, City, Trip, Unit, tell

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key="none"))
SETTINGS = ModelSettings(temperature=0, max_tokens=MAX_TOKENS, timeout=60)
FUNCTION = TOOL["function"]
DEFINITION = ToolDefinition(
    name=NAME,
    description=FUNCTION["description"],
    parameters_json_schema=FUNCTION["parameters"],
    strict=True,
)
FORCED = SETTINGS | ModelSettings(tool_choice="required", parallel_tool_calls=False)
ASKED = [ModelRequest.user_text_prompt(QUESTION)]
OFFERED = ModelRequestParameters(function_tools=[DEFINITION])


def call_of(response: ModelResponse) -> dict[str, Any]:
    [call] = [part for part in response.parts if isinstance(part, ToolCallPart)]
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    return {
        "id": call.tool_call_id,
        "name": call.tool_name,
        "arguments": call.args_as_dict(),
        "content": text or None,
        "finish_reason": {"tool_call": "tool_calls"}.get(response.finish_reason),
        "usage": usage_of(response.usage),
    }


def usage_of(usage: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def streamed_call() -> dict[str, Any]:
    with model_request_stream_sync(
        model, ASKED, model_settings=FORCED, model_request_parameters=OFFERED
    ) as stream:
        for _ in stream:
            pass
        return call_of(stream.response)


def first_step_calls(context: RunContext[None]) -> ModelSettings:
    """The agent must call in its first step, and answer in its second."""
    return FORCED if context.run_step == 1 else SETTINGS | ModelSettings(tool_choice="none")


def talker() -> Agent[None, str]:
    agent = Agent(model, model_settings=first_step_calls)

    @agent.tool_plain
    def get_weather(city: City, unit: Unit) -> str:
        """The weather in a city."""
        return RESULT

    return agent


def told(messages: list[Any], text: str) -> dict[str, Any]:
    """The answer after the call and its result."""
    last = messages[-1]
    kinds = [part.part_kind for message in messages for part in message.parts]
    return {
        "text": text,
        "finish_reason": last.finish_reason,
        "usage": usage_of(last.usage),
        "kinds": kinds,
    }


def answer() -> dict[str, Any]:
    done = talker().run_sync(QUESTION)
    return told(done.all_messages(), done.output)


def streamed_answer() -> dict[str, Any]:
    done = talker().run_stream_sync(QUESTION)
    text = "".join(done.stream_text(delta=True, debounce_by=None))
    return told(done.all_messages(), text)


def structured(form: Any) -> dict[str, Any]:
    done = Agent(model, output_type=form, model_settings=SETTINGS, retries=0).run_sync(WISH)
    return done.output.model_dump()


def streamed_structure(form: Any) -> dict[str, Any]:
    done = Agent(model, output_type=form, model_settings=SETTINGS, retries=0).run_stream_sync(WISH)
    return done.get_output().model_dump()


def refused(*, stream: bool) -> dict[str, Any]:
    wrong = SETTINGS | ModelSettings(temperature=-1)
    try:
        if stream:
            Agent(model, model_settings=wrong).run_stream_sync(QUESTION).get_output()
        else:
            Agent(model, model_settings=wrong).run_sync(QUESTION)
    except ModelHTTPError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "param": error.body["param"],
            "code": error.body["code"],
        }
    raise AssertionError("it was not refused")


tell(
    version=version("pydantic-ai-slim"),
    call=call_of(
        model_request_sync(model, ASKED, model_settings=FORCED, model_request_parameters=OFFERED)
    ),
    streamed_call=streamed_call(),
    answer=answer(),
    streamed_answer=streamed_answer(),
    structured=structured(NativeOutput(Trip)),
    streamed_structure=streamed_structure(NativeOutput(Trip)),
    structure_by_a_call=structured(ToolOutput(Trip)),
    streamed_structure_by_a_call=streamed_structure(ToolOutput(Trip)),
    error=refused(stream=False),
    streamed_error=refused(stream=True),
)
