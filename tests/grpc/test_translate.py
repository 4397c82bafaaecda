"""From messages to requests: what is refused, then what arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Message,
    SamplingFields,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from llmserve.errors import InvalidRequest
from llmserve.grpc.translate import Request, request_of
from llmserve.proto.v1 import generation_pb2 as pb

USER = pb.Message(role=pb.Message.ROLE_USER, content="hello")
WEATHER = pb.Tool(
    name="get_weather",
    description="The weather.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}}}',
)


def translated(sent: Request, seconds_left: float | None = None) -> GenerationRequest:
    return request_of(sent, "r", seconds_left, 8)


def generate(**options: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text="a", options=pb.Options(**options))


def constrained(**kind: Any) -> pb.GenerateRequest:
    return generate(constraint=pb.Constraint(**kind))


def chat(*messages: pb.Message, **fields: Any) -> pb.ChatRequest:
    return pb.ChatRequest(messages=messages or (USER,), **fields)


def calling(**fields: Any) -> pb.Message:
    call = {"id": "c", "name": "f", "arguments": "{}"} | fields
    return pb.Message(role=pb.Message.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(**call)])


DEEP = '{"a":' * 9 + "1" + "}" * 9


@pytest.mark.parametrize(
    ("sent", "param", "words"),
    [
        (pb.GenerateRequest(), "prompt", "send text or token_ids"),
        (generate(timeout_seconds=0), "options.timeout_seconds", "positive"),
        (generate(timeout_seconds=float("nan")), "options.timeout_seconds", "positive"),
        (generate(cache_salt=""), "options.cache_salt", "1 to 256"),
        (generate(max_prompt_tokens=0), "options.max_prompt_tokens", "-1 for what fits"),
        (generate(max_prompt_tokens=-2), "options.max_prompt_tokens", "-1 for what fits"),
        (constrained(), "options.constraint", "empty, or of a kind"),
        (constrained(json_object=False), "options.constraint.json_object", "true"),
        (constrained(regex=""), "options.constraint.regex", "empty"),
        (constrained(json_schema="{"), "options.constraint.json_schema", "not valid JSON"),
        (constrained(json_schema="[]"), "options.constraint.json_schema", "JSON object"),
        (constrained(json_schema=DEEP), None, "nested deeper"),
        (
            constrained(choice=pb.Constraint.Choice(texts=["a", ""])),
            "options.constraint.choice",
            "none of them empty",
        ),
        (pb.ChatRequest(), "messages", "at least one"),
        (chat(pb.Message(role=pb.Message.ROLE_USER)), "messages", "every message is empty"),
        (chat(USER, pb.Message(content="a")), "messages[1].role", "no role"),
        (chat(pb.Message(role=99, content="a")), "messages[0].role", "but 99"),
        (
            chat(pb.Message(role=pb.Message.ROLE_TOOL, content="a")),
            "messages[0].tool_call_id",
            "the id of the call",
        ),
        (
            chat(pb.Message(role=pb.Message.ROLE_USER, content="a", reasoning="b")),
            "messages[0].reasoning",
            "of the assistant",
        ),
        (
            chat(pb.Message(role=pb.Message.ROLE_USER, content="a", name="n" * 129)),
            "messages[0].name",
            "may have 128",
        ),
        (chat(calling(id="")), "messages[0].tool_calls[0].id", "needs an id"),
        (chat(calling(name="a b")), "messages[0].tool_calls[0].name", "letters"),
        (chat(tools=[pb.Tool(name="")]), "tools[0].name", "letters"),
        (chat(tools=[pb.Tool(name="f\n")]), "tools[0].name", "letters"),
        (chat(tools=[WEATHER, WEATHER]), "tools", "two tools have the name"),
        (chat(tools=[pb.Tool(name="f", parameters="1")]), "tools[0].parameters", "JSON object"),
        (chat(tools=[pb.Tool(name="f", definition="1")]), "tools[0].definition", "JSON object"),
        (chat(tool_choice=pb.ToolChoice(mode=9)), "tool_choice.mode", "the mode 9"),
        (
            chat(tools=[WEATHER], tool_choice=pb.ToolChoice(names=["other"])),
            "tool_choice",
            "'other' is not among",
        ),
        (
            chat(tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED)),
            "tool_choice",
            "there are no tools",
        ),
        (
            chat(
                tools=[WEATHER],
                tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED),
                options=pb.Options(constraint=pb.Constraint(json_object=True)),
            ),
            "tool_choice",
            "send one of",
        ),
        (chat(template_options="[]"), "template_options", "JSON object"),
        (
            chat(continue_final_message=True, add_generation_prompt=True),
            "continue_final_message",
            "send one of them",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    sent: Request, param: str | None, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        translated(sent)
    assert caught.value.param == param


def test_a_bare_prompt() -> None:
    assert translated(pb.GenerateRequest(text="a")) == GenerationRequest(id="r", prompt="a")
    ids = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, 2]), add_special_tokens=False)
    assert translated(ids).prompt == (1, 2)
    assert not translated(ids).adds_special_tokens


def test_the_options_arrive() -> None:
    request = translated(
        pb.GenerateRequest(
            text="a",
            model="m",
            options=pb.Options(
                sampling=pb.Sampling(top_k=3),
                constraint=pb.Constraint(choice=pb.Constraint.Choice(texts=["yes", "nö"])),
                timeout_seconds=9,
                cache_salt="s",
                max_prompt_tokens=-1,
                require_reasoning=False,
            ),
        )
    )
    assert request == GenerationRequest(
        id="r",
        prompt="a",
        model="m",
        sampling=SamplingFields(top_k=3),
        constraint=Constraint(
            ConstraintKind.CHOICE, '["yes","nö"]', param="options.constraint.choice"
        ),
        timeout_seconds=9,
        cache_salt="s",
        max_prompt_tokens=-1,
        requires_reasoning=False,
    )


@pytest.mark.parametrize(
    ("wanted", "left", "expected"),
    [(None, None, None), (None, 5.0, 5.0), (9, 5.0, 5.0), (3, 5.0, 3), (3, None, 3)],
)
def test_the_earlier_of_timeout_and_deadline_counts(
    wanted: float | None, left: float | None, expected: float | None
) -> None:
    sent = generate() if wanted is None else generate(timeout_seconds=wanted)
    assert translated(sent, left).timeout_seconds == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"json_schema": '{"type": "null"}'}, (ConstraintKind.JSON_SCHEMA, '{"type": "null"}')),
        ({"json_object": True}, (ConstraintKind.JSON_OBJECT, "")),
        ({"regex": "a+"}, (ConstraintKind.REGEX, "a+")),
        ({"grammar": 'start: "a"'}, (ConstraintKind.GRAMMAR, 'start: "a"')),
    ],
)
def test_each_kind_of_constraint(
    kind: dict[str, Any], expected: tuple[ConstraintKind, str]
) -> None:
    constraint = translated(constrained(**kind)).constraint
    assert constraint is not None
    assert (constraint.kind, constraint.source) == expected


def test_a_conversation_with_calls() -> None:
    request = translated(
        chat(
            pb.Message(role=pb.Message.ROLE_SYSTEM, content="be kind"),
            pb.Message(role=pb.Message.ROLE_USER, content="hello", name="Anna"),
            pb.Message(
                role=pb.Message.ROLE_ASSISTANT,
                reasoning="hm",
                tool_calls=[pb.ToolCall(id="c", name="get_weather", arguments="{}")],
            ),
            pb.Message(role=pb.Message.ROLE_TOOL, content="wet", tool_call_id="c"),
            tools=[WEATHER],
            tool_choice=pb.ToolChoice(names=["get_weather"], parallel=False),
            template_options='{"enable_thinking": false}',
        )
    )
    conversation = request.prompt
    assert isinstance(conversation, Conversation)
    assert conversation.messages == (
        Message("system", "be kind"),
        Message("user", "hello", name="Anna"),
        Message("assistant", "", reasoning="hm", tool_calls=(ToolCall("c", "get_weather", "{}"),)),
        Message("tool", "wet", tool_call_id="c"),
    )
    assert request.tool_choice == ToolChoice(ToolMode.AUTO, ("get_weather",), is_parallel=False)
    assert conversation.template_options == '{"enable_thinking": false}'
    assert (conversation.has_generation_prompt, conversation.continues_last) == (True, False)
    [tool] = conversation.tools
    assert tool.parameters == WEATHER.parameters
    assert json.loads(tool.definition) == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather.",
            "parameters": json.loads(WEATHER.parameters),
        },
    }


def test_a_definition_is_shown_as_it_is() -> None:
    definition = '{"type": "function", "function": {"name": "f"}, "more": 1}'
    request = translated(chat(tools=[pb.Tool(name="f", definition=definition, strict=True)]))
    assert isinstance(request.prompt, Conversation)
    [tool] = request.prompt.tools
    assert (tool.definition, tool.is_strict) == (definition, True)


def test_the_choice_none_shows_no_tools() -> None:
    choice = pb.ToolChoice(mode=pb.ToolChoice.MODE_NONE)
    request = translated(chat(tools=[WEATHER], tool_choice=choice))
    assert isinstance(request.prompt, Conversation)
    assert request.prompt.tools == ()


def test_the_last_message_may_go_on() -> None:
    request = translated(chat(continue_final_message=True))
    assert isinstance(request.prompt, Conversation)
    assert request.prompt.continues_last
    assert not request.prompt.has_generation_prompt
    closed = translated(chat(add_generation_prompt=False)).prompt
    assert isinstance(closed, Conversation)
    assert not closed.has_generation_prompt
