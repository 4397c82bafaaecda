"""What Ollama's clients may send, and what becomes of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from llmserve.api.ollama.chat_body import ChatBody
from llmserve.api.ollama.generate_body import GenerateBody
from llmserve.api.validation import invalid_request
from llmserve.domain import (
    Constraint,
    ConstraintKind,
    Conversation,
    GenerationRequest,
    Message,
    ToolCall,
)

ASKED = [{"role": "user", "content": "hi"}]


def request(body: ChatBody | GenerateBody) -> GenerationRequest:
    [made] = body.requests("r1", 7.0)
    return made


def chat(**sent: Any) -> GenerationRequest:
    return request(ChatBody.model_validate({"messages": ASKED} | sent))


def generate(**sent: Any) -> GenerationRequest:
    return request(GenerateBody.model_validate({"prompt": "hi"} | sent))


def complaint(kind: type[ChatBody | GenerateBody], **sent: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"messages": ASKED} | sent if kind is ChatBody else sent)
    return invalid_request(caught.value.errors()).message


@pytest.mark.parametrize("field", ["template", "suffix", "context", "width"])
def test_what_would_change_the_answer_is_refused_by_name(field: str) -> None:
    assert complaint(GenerateBody, **{field: ["x"]}).startswith(f"'{field}' is not supported")
    GenerateBody.model_validate({field: None})


@pytest.mark.parametrize(
    ("option", "value", "default"),
    [("mirostat", 1, 0), ("tfs_z", 0.5, 1.0), ("typical_p", 0.5, 1), ("repeat_last_n", 9, 64)],
)
def test_samplers_that_there_are_not_are_refused_unless_they_are_off(
    option: str, value: float, default: float
) -> None:
    assert f"options.{option}" in complaint(ChatBody, options={option: value})
    assert not list(ChatBody.model_validate({"options": {option: default}}).unknown(9))


def test_pictures_in_a_message_are_refused_by_name() -> None:
    told = complaint(ChatBody, messages=[{"role": "user", "content": "what?", "images": ["aGk="]}])
    assert told.startswith("messages.0.images: images cannot be read")
    assert complaint(GenerateBody, prompt="what?", images=["aGk="]).startswith("images: images")
    GenerateBody.model_validate({"images": None})


def test_options_of_the_hardware_are_told_as_ignored() -> None:
    sent = {"options": {"num_ctx": 4096, "num_gpu": 1, "num_predict": 3}, "truncate": True}
    assert list(ChatBody.model_validate(sent).unknown(9)) == [
        (("options",), "num_ctx"),
        (("options",), "num_gpu"),
    ]


def test_options_are_the_sampling() -> None:
    options = {
        "num_predict": 3, "temperature": 0.5, "top_k": 0, "top_p": 0.8, "min_p": 0.1, "seed": 7,
        "stop": ["a"], "repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.25,
    }  # fmt: skip
    sampling = chat(options=options).sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k) == (3, 0.5, 0)
    assert (sampling.top_p, sampling.min_p, sampling.seed, sampling.stop) == (0.8, 0.1, 7, ("a",))
    assert sampling.repetition_penalty == 1.1
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, 0.25)
    assert chat(options={"num_predict": -1, "seed": -1}).sampling == chat().sampling
    assert chat().defaults.temperature == 0.8


def test_log_probabilities_are_asked_for_by_two_fields() -> None:
    assert chat().sampling.logprobs is None
    assert chat(logprobs=True).sampling.logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).sampling.logprobs == 3
    assert "logprobs: true" in complaint(ChatBody, top_logprobs=3)


def test_a_format_is_any_object_or_a_schema() -> None:
    assert generate(format="").constraint is None
    assert generate(format="json").constraint == Constraint(
        ConstraintKind.JSON_OBJECT, param="format"
    )
    constraint = generate(format={"type": "integer"}).constraint
    assert constraint is not None
    assert (constraint.kind, constraint.param) == (ConstraintKind.JSON_SCHEMA, "format")
    assert json.loads(constraint.source) == {"type": "integer"}
    assert complaint(GenerateBody, format="yaml").startswith("format")


@pytest.mark.parametrize(
    ("think", "options"),
    [
        (None, {}),
        (True, {"enable_thinking": True, "thinking": True}),
        (False, {"enable_thinking": False, "thinking": False}),
        ("low", {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}),
    ],
)
def test_thinking_is_told_to_the_template(think: Any, options: dict[str, Any]) -> None:
    for made in (chat(think=think), generate(think=think)):
        assert isinstance(made.prompt, Conversation)
        assert json.loads(made.prompt.template_options) == options


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(0, 0.0), (90, 90.0), ("90", 90.0), ("1h1.5m", 3690.0), ("500ms", 0.5), (-1, math.inf),
     ("-1m", math.inf)],
)  # fmt: skip
def test_keep_alive_is_seconds_or_a_duration(sent: Any, seconds: float) -> None:
    assert ChatBody.model_validate({"keep_alive": sent}).keep_alive == seconds


@pytest.mark.parametrize("sent", ["soon", "5", "5 m", True, [], "9" * 400, "1m2"])
def test_nothing_else_is(sent: Any) -> None:
    if sent in ("5", []):  # a number of seconds as text; nothing
        ChatBody.model_validate({"keep_alive": sent})
    else:
        assert complaint(ChatBody, keep_alive=sent).startswith("keep_alive: it is a number")


def test_a_keep_alive_without_effect_is_told_as_ignored() -> None:
    body = ChatBody.model_validate({"keep_alive": 5, "own": 1})
    ignoring = body.ignoring_keep_alive()
    assert ignoring.keep_alive is None
    assert list(ignoring.unknown(9)) == [((), "own"), ((), "keep_alive")]
    assert list(body.unknown(9)) == [((), "own")]


def test_a_prompt_is_a_users_message_unless_it_is_raw() -> None:
    told = generate(system="Be kind.").prompt
    assert isinstance(told, Conversation)
    assert told.messages == (Message("system", "Be kind."), Message("user", "hi"))
    assert generate(raw=True).prompt == "hi"
    assert "raw prompt" in complaint(GenerateBody, prompt="x", raw=True, system="Be kind.")
    assert "raw prompt" in complaint(GenerateBody, prompt="x", raw=True, think=True)


def test_nothing_to_answer_asks_to_load_the_model() -> None:
    assert ChatBody.model_validate({}).asks_to_load
    assert GenerateBody.model_validate({"prompt": ""}).asks_to_load
    assert not ChatBody.model_validate({"messages": ASKED}).asks_to_load
    told = complaint(ChatBody, messages=[{"role": "user", "content": ""}])
    assert told == "messages: every message is empty"


def called(name: str, **arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def test_results_find_the_calls_that_they_answer() -> None:
    history = [
        *ASKED,
        {"role": "assistant", "thinking": "hm", "tool_calls": [called("f", a=1), called("g")]},
        {"role": "tool", "tool_name": "g", "content": "of g"},
        {"role": "tool", "content": "of f"},
        {"role": "assistant", "content": "", "tool_calls": [called("f") | {"id": "mine"}]},
        {"role": "tool", "tool_call_id": "mine", "content": "again"},
        {"role": "tool", "name": "h", "content": "of nobody"},
    ]
    prompt = chat(messages=history).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages[1:] == (
        Message(
            "assistant",
            "",
            reasoning="hm",
            tool_calls=(ToolCall("call_1_0", "f", '{"a":1}'), ToolCall("call_1_1", "g", "{}")),
        ),
        Message("tool", "of g", name="g", tool_call_id="call_1_1"),
        Message("tool", "of f", name="f", tool_call_id="call_1_0"),
        Message("assistant", "", tool_calls=(ToolCall("mine", "f", "{}"),)),
        Message("tool", "again", name="f", tool_call_id="mine"),
        Message("tool", "of nobody", name="h"),
    )


def test_only_the_assistant_calls_and_thinks() -> None:
    for more in ({"tool_calls": [called("f")]}, {"thinking": "hm"}, {"tool_name": "f"}):
        assert "is for messages of" in complaint(ChatBody, messages=[ASKED[0] | more])


def test_two_tools_have_two_names() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert "two tools" in complaint(ChatBody, tools=[tool, tool])
    prompt = chat(tools=[tool]).prompt
    assert isinstance(prompt, Conversation)
    assert [offered.name for offered in prompt.tools] == ["f"]
