"""The demo model calls a tool for what only the tool knows, and fills in fields."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from server import Server

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def asked(server: Server, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """The only choice of an answer at temperature 0."""
    body = {"messages": messages, "temperature": 0} | fields
    answer = httpx.post(server.url + "/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    return dict(choice)


@pytest.mark.parametrize(
    ("question", "city"),
    [("What is the weather in Paris?", "Paris"), ("How is the weather in Tokyo?", "Tokyo")],
)
def test_it_calls_a_tool_and_answers_with_the_result(
    demo: Server, question: str, city: str
) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    choice = asked(demo, messages, tools=[WEATHER])
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": city}
    result = json.dumps({"degrees": 18, "sky": "sunny"})
    messages += [
        choice["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]
    answer = asked(demo, messages, tools=[WEATHER])
    assert answer["message"]["content"] == f"It is 18 degrees and sunny in {city}."
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(("name", "age"), [("Anna", 7), ("Oscar", 42)])
def test_it_fills_in_a_schema(demo: Server, name: str, age: int) -> None:
    messages = [
        {"role": "user", "content": f"Fill in name and age as JSON: {name} is {age} years old."}
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    choice = asked(demo, messages, response_format=schema)
    assert json.loads(choice["message"]["content"]) == {"name": name, "age": age}
    assert choice["finish_reason"] == "stop"


def test_what_it_knows_itself_it_says_though_there_is_a_tool(demo: Server) -> None:
    messages = [{"role": "user", "content": "How do I warm a model?"}]
    choice = asked(demo, messages, tools=[WEATHER])
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    assert "warm" in choice["message"]["content"]
