"""Reasoning, tool calls and formats, from a client's fields to both engines and back.

The model has random weights: whatever holds here, holds for every model at any temperature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from bounded import run
from server import Server, running_server
from thinking_model import make_thinking_model
from websockets.asyncio.client import connect

ENGINES = ("batching", "threaded")
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


TOOLS = [tool("look"), tool("listen")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("parts")
    models = [make_thinking_model(folder / engine, engine) for engine in ENGINES]
    with running_server(folder, *models) as running:
        yield running


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(server: Server, engine: str, **fields: Any) -> dict[str, Any]:
    """The answer's body."""
    body = {"model": engine, "messages": HELLO, "max_tokens": 300, "temperature": 1} | fields
    answer = httpx.post(server.url + CHAT, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def put_together(server: Server, engine: str, **fields: Any) -> tuple[dict[str, Any], list[Any]]:
    """The message that a stream's deltas add up to, and its finish reasons."""
    body = {"model": engine, "messages": HELLO, "max_tokens": 300, "temperature": 1} | fields
    text = httpx.post(server.url + CHAT, json=body | {"stream": True}, timeout=60).text
    frames = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    reasons = []
    for frame in frames:
        [choice] = frame["choices"]
        delta = choice["delta"]
        message["content"] += delta.get("content") or ""
        message["reasoning_content"] += delta.get("reasoning_content", "")
        for piece in delta.get("tool_calls", ()):
            if piece["index"] == len(message["tool_calls"]):
                message["tool_calls"].append(piece)
                assert piece["function"]["name"], "the name comes first"
            else:
                arguments = piece["function"]["arguments"]
                message["tool_calls"][-1]["function"]["arguments"] += arguments
        if choice["finish_reason"] is not None:
            reasons.append(choice["finish_reason"])
    return message, reasons


def test_a_budget_ends_the_reasoning_and_the_usage_tells_it(server: Server, engine: str) -> None:
    # By itself the model never writes either mark.
    bias = {"257": -100, "258": -100}
    fields = {"thinking_token_budget": 5, "max_tokens": 20, "logit_bias": bias}
    answer = asked(server, engine, ignore_eos=True, **fields)
    usage = answer["usage"]
    assert usage["completion_tokens"] == 20
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 6, "and the closing mark"
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"]
    assert "</think>" not in message["reasoning_content"] + message["content"]


def test_a_format_holds_for_what_follows_the_reasoning(server: Server, engine: str) -> None:
    answer = asked(server, engine, thinking_token_budget=4, response_format=FORMAT)
    [choice] = answer["choices"]
    jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    assert choice["finish_reason"] == "stop"
    reasoning_tokens = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 1 <= reasoning_tokens <= 5


def test_reasoning_does_not_end_an_answer_that_must_have_a_form(
    server: Server, engine: str
) -> None:
    fields = {"thinking_token_budget": 3, "logit_bias": {"256": 100}, "n": 3}
    for choice in asked(server, engine, response_format=FORMAT, **fields)["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    fields |= {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    for choice in asked(server, engine, **fields)["choices"]:
        assert choice["finish_reason"] == "tool_calls"


def test_without_reasoning_a_format_holds_from_the_beginning(server: Server, engine: str) -> None:
    answer = asked(server, engine, reasoning_effort="none", response_format=FORMAT, n=3)
    for choice in answer["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        assert "reasoning_content" not in choice["message"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"look", "listen"}),
        ({"type": "function", "function": {"name": "listen"}}, {"listen"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [tool("look")]},
            },
            {"look"},
        ),
    ],
)
def test_a_call_that_must_be_made_is_made_with_valid_arguments(
    server: Server, engine: str, choice: Any, names: set[str]
) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "thinking_token_budget": 3}
    answer = asked(server, engine, parallel_tool_calls=False, **fields)
    [whole] = answer["choices"]
    assert whole["finish_reason"] == "tool_calls"
    [call] = whole["message"]["tool_calls"]
    assert call["function"]["name"] in names
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)
    message, reasons = put_together(server, engine, parallel_tool_calls=False, **fields)
    assert reasons == ["tool_calls"]
    [call] = message["tool_calls"]
    assert call["function"]["name"] in names
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)


def test_a_stream_says_what_a_whole_answer_says(server: Server, engine: str) -> None:
    fields = {
        "seed": 7,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "thinking_token_budget": 8,
    }
    whole = asked(server, engine, **fields)["choices"][0]["message"]
    message, _ = put_together(server, engine, **fields)
    assert message["reasoning_content"] == whole["reasoning_content"]
    assert message["content"] == (whole["content"] or "")
    assert [c["function"] for c in message["tool_calls"]] == [
        c["function"] for c in whole["tool_calls"]
    ]


def test_a_call_of_ours_may_come_back_with_its_result(server: Server, engine: str) -> None:
    fields = {"tools": TOOLS, "thinking_token_budget": 2, "max_tokens": 120}
    message = asked(server, engine, tool_choice="required", **fields)["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "18"}
        for call in message["tool_calls"]
    ]
    answer = asked(server, engine, messages=[*HELLO, message, *results], **fields)
    assert answer["usage"]["prompt_tokens"] > len("hi18")
    assert answer["choices"][0]["message"]["role"] == "assistant"


def test_who_chooses_no_tool_gets_their_syntax_as_text(server: Server, engine: str) -> None:
    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    fields = {"reasoning_effort": "none", "guided_choice": [call]}
    answer = asked(server, engine, tools=TOOLS, tool_choice="none", **fields)
    assert answer["choices"][0]["message"]["content"] == call
    answer = asked(server, engine, **fields)
    assert answer["choices"][0]["message"]["content"] == call


def test_an_answer_in_a_format_may_be_a_call_instead(server: Server, engine: str) -> None:
    kinds = set()
    for seed in range(6):
        fields = {"reasoning_effort": "none", "response_format": FORMAT, "tools": TOOLS}
        bias = {"258" if seed % 2 else "90": 100, "91": 100} if seed else {}
        answer = asked(server, engine, seed=seed, logit_bias=bias, **fields)
        message = answer["choices"][0]["message"]
        if message.get("tool_calls"):
            kinds.add("calls")
        else:
            jsonschema.validate(json.loads(message["content"]), SCHEMA)
            kinds.add("format")
    assert kinds <= {"calls", "format"}


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"guided_json": {"not": {}}}, "guided_json", "#/not"),
        (
            {"response_format": FORMAT | {"json_schema": {"name": "n", "schema": {"type": "x"}}}},
            "response_format.json_schema.schema",
            "#/type",
        ),
        ({"guided_regex": "("}, "guided_regex", "guided_regex"),
        ({"guided_grammar": "root ::= missing"}, "guided_grammar", "missing"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(
    server: Server, engine: str, fields: dict[str, Any], param: str, told: str
) -> None:
    body = {"model": engine, "messages": HELLO} | fields
    answer = httpx.post(server.url + CHAT, json=body, timeout=60)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert told in error["message"]


def test_native_routes_keep_formats_too(server: Server, engine: str) -> None:
    body = {"model": engine, "prompt": "x", "guided_choice": ["yes", "no"], "max_tokens": 9}
    answer = httpx.post(server.url + "/generate", json=body, timeout=60).json()
    assert answer["result"] in ("yes", "no")
    assert answer["finish_reason"] == "stop"

    async def test() -> None:
        async with connect(server.url.replace("http", "ws") + "/ws") as socket:
            await socket.send(json.dumps(body | {"id": "a"}))
            text = ""
            while (frame := json.loads(await socket.recv()))["type"] != "done":
                text += frame.get("token", "")
            assert text in ("yes", "no")

    run(test)


def test_models_tell_how_their_answers_are_read(server: Server, engine: str) -> None:
    model = httpx.get(f"{server.url}/v1/models/{engine}", timeout=60).json()
    assert model["engine"]["kind"] == engine
    assert model["tools"]["syntax"] == "hermes"
    assert model["tools"]["native"] is True
    assert model["reasoning"] is True
