"""A request for each kind of server: what cannot be told is refused by name; then what is."""

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
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from llmserve.engines.remote.request_body import RequestWriter, unsaid
from llmserve.engines.remote.server_kind import TAKES, ServerKind, kind_of
from llmserve.errors import InvalidRequest

CHAT = Conversation((Message("user", "hi"),))
DEFINITION = '{"type":"function","function":{"name":"%s"}}'
TOOLS = tuple(Tool(name, DEFINITION % name) for name in "abc")


def written(
    kind: ServerKind = ServerKind.UNKNOWN,
    prompt: Any = CHAT,
    operators: SamplingFields | None = None,
    keeps_any_budget: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    writer = RequestWriter(
        kind, TAKES[kind], "there", operators or SamplingFields(), keeps_any_budget
    )
    body: dict[str, Any] = json.loads(
        writer.write(GenerationRequest("r", prompt, **fields)).content
    )
    return body


@pytest.mark.parametrize(
    ("kind", "fields", "param"),
    [
        ("unknown", {"sampling": SamplingFields(top_k=3)}, "top_k"),
        ("openai", {"sampling": SamplingFields(min_p=0.1)}, "min_p"),
        ("unknown", {"sampling": SamplingFields(skips_special_tokens=False)},
         "skip_special_tokens"),
        ("unknown", {"sampling": SamplingFields(includes_stop=True, stop=("x",))},
         "include_stop_str_in_output"),
        ("sglang", {"sampling": SamplingFields(bad_words=("x",))}, "bad_words"),
        ("llama.cpp", {"sampling": SamplingFields(min_tokens=2)}, "min_tokens"),
        ("unknown", {"sampling": SamplingFields(thinking_budget=5)}, "thinking_token_budget"),
        ("llmserve", {"sampling": SamplingFields(prompt_logprobs=0)}, "prompt_logprobs"),
        ("llmserve", {"sampling": SamplingFields(max_tokens=0)}, "max_tokens"),
        ("llmserve", {"shows_token_ids": "return_token_ids"}, "return_token_ids"),
        ("unknown", {"cache_salt": "s"}, "cache_salt"),
        ("unknown", {"max_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ("unknown", {"prompt": "hi", "adds_special_tokens": False}, "add_special_tokens"),
        ("unknown", {"constraint": Constraint(ConstraintKind.REGEX, "a", "guided_regex")},
         "guided_regex"),
        ("sglang", {"constraint": Constraint(ConstraintKind.CHOICE, '["a"]', "guided_choice")},
         "guided_choice"),
        ("unknown", {"prompt": "x", "constraint": Constraint(ConstraintKind.JSON_OBJECT)},
         "response_format"),
        ("llmserve", {"constraint": Constraint(ConstraintKind.JSON_SCHEMA, "{")},
         "response_format"),
        ("unknown", {"prompt": Conversation(CHAT.messages, template_options='{"x": 1}')},
         "chat_template_kwargs"),
        ("unknown", {"prompt": Conversation(CHAT.messages, continues_last=True)},
         "continue_final_message"),
        ("openai", {"prompt": Conversation(CHAT.messages, has_generation_prompt=False)},
         "add_generation_prompt"),
    ],
)  # fmt: skip
def test_what_a_server_cannot_be_told_is_refused_by_name(
    kind: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        written(ServerKind(kind), **fields)
    assert refused.value.param == param


@pytest.mark.parametrize("kind", list(ServerKind))
def test_what_asks_for_nothing_is_left_out_or_known(kind: ServerKind) -> None:
    neutral = SamplingFields(
        top_k=0, min_p=0.0, repetition_penalty=1.0, ignore_eos=False, min_tokens=0,
        skips_special_tokens=True, includes_stop=True, bad_words=(), allowed_token_ids=(),
        stop_token_ids=(),
    )  # fmt: skip
    body = written(kind, sampling=neutral)
    if kind is ServerKind.UNKNOWN:
        assert body.keys() == {"model", "stream", "stream_options", "messages"}
    if kind is ServerKind.VLLM:
        assert (body["top_k"], body["repetition_penalty"]) == (0, 1.0)


def test_all_fields_reach_a_server_of_our_kind() -> None:
    sampling = SamplingFields(
        max_tokens=5, min_tokens=1, temperature=0.5, top_p=0.9, top_k=4, min_p=0.1,
        repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.2, stop=("x",), seed=7,
        ignore_eos=True, logit_bias=((5, -1.0),), logprobs=2, stop_token_ids=(3,),
        includes_stop=True, skips_special_tokens=False, bad_words=("no",),
        allowed_token_ids=(1, 2), thinking_budget=9,
    )  # fmt: skip
    body = written(ServerKind.LLMSERVE, sampling=sampling, cache_salt="s", max_prompt_tokens=9)
    for name in ("messages", "model", "stream", "stream_options"):
        del body[name]
    assert body == {
        "max_tokens": 5, "min_tokens": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 4,
        "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "stop": ["x"], "seed": 7, "ignore_eos": True,
        "logit_bias": {"5": -1.0}, "logprobs": True, "top_logprobs": 2, "stop_token_ids": [3],
        "include_stop_str_in_output": True, "skip_special_tokens": False, "bad_words": ["no"],
        "allowed_token_ids": [1, 2], "thinking_token_budget": 9, "cache_salt": "s",
        "truncate_prompt_tokens": 9,
    }  # fmt: skip


def test_what_a_route_does_by_itself_leaves_room_for_the_models_own_wishes() -> None:
    defaults = SamplingFields(temperature=1.0, max_tokens=16)
    text = written(prompt="x", defaults=defaults)
    assert text.keys() == {"model", "stream", "stream_options", "prompt"}
    assert written(prompt="x", defaults=SamplingFields(temperature=0.7, max_tokens=50)) == text | {
        "temperature": 0.7, "max_tokens": 50,
    }  # fmt: skip
    ollama = SamplingFields(temperature=0.8, top_k=40, top_p=0.9)
    assert "top_k" not in written(defaults=ollama)
    assert written(ServerKind.LLAMA_CPP, defaults=ollama)["top_k"] == 40


def test_the_operators_sampling_stands_between_request_and_route() -> None:
    operators = SamplingFields(temperature=0.2, top_k=3, top_p=0.5)
    body = written(operators=operators, sampling=SamplingFields(top_p=0.9))
    assert (body["temperature"], body["top_p"]) == (0.2, 0.9)
    assert "top_k" not in body
    assert unsaid(operators, TAKES[ServerKind.UNKNOWN]) == ["top_k"]


def test_a_conversation_is_written_with_all_its_parts() -> None:
    messages = (
        Message("developer", "be kind"),
        Message("user", "weather?", name="ann"),
        Message("assistant", "", reasoning="hm", tool_calls=(ToolCall("c1", "a", "{}"),)),
        Message("tool", "sunny", tool_call_id="c1"),
    )
    ours = written(ServerKind.LLMSERVE, prompt=Conversation(messages))["messages"]
    assert ours[0]["role"] == "developer"
    assert ours[1]["name"] == "ann"
    assert ours[2]["reasoning_content"] == "hm"
    assert ours[2]["content"] is None
    assert ours[2]["tool_calls"][0]["function"] == {"name": "a", "arguments": "{}"}
    assert ours[3]["tool_call_id"] == "c1"
    others = written(prompt=Conversation(messages))["messages"]
    assert others[0]["role"] == "system"
    assert "reasoning_content" not in others[2]


def test_reasoning_effort_is_a_field_of_its_own() -> None:
    options = '{"reasoning_effort": "none", "enable_thinking": false, "verbosity": "low"}'
    body = written(prompt=Conversation(CHAT.messages, template_options=options))
    assert (body["reasoning_effort"], body["verbosity"]) == ("none", "low")
    options = '{"enable_thinking": false}'
    body = written(ServerKind.VLLM, prompt=Conversation(CHAT.messages, template_options=options))
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("choice", "kind", "names", "told"),
    [
        (ToolChoice(), "unknown", "abc", None),
        (ToolChoice(ToolMode.NONE), "unknown", "", None),
        (ToolChoice(ToolMode.REQUIRED), "unknown", "abc", "required"),
        (ToolChoice(ToolMode.REQUIRED, ("b",)), "unknown", "abc",
         {"type": "function", "function": {"name": "b"}}),
        (ToolChoice(ToolMode.REQUIRED, ("a", "b")), "unknown", "ab", "required"),
        (ToolChoice(ToolMode.AUTO, ("a",)), "vllm", "a", None),
        (ToolChoice(ToolMode.AUTO, ("a",)), "openai", "abc", {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto", "tools": [{"type": "function", "function": {"name": "a"}}],
            },
        }),
    ],
)  # fmt: skip
def test_a_choice_among_tools(choice: ToolChoice, kind: str, names: str, told: Any) -> None:
    body = written(ServerKind(kind), prompt=Conversation(CHAT.messages, TOOLS), tool_choice=choice)
    assert "".join(tool["function"]["name"] for tool in body.get("tools", ())) == names
    assert body.get("tool_choice") == told


def test_a_strict_tool_and_one_call_at_a_time() -> None:
    tool = Tool("a", DEFINITION % "a", is_strict=True)
    body = written(
        prompt=Conversation(CHAT.messages, (tool,)), tool_choice=ToolChoice(is_parallel=False)
    )
    assert body["tools"][0]["function"]["strict"] is True
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("kind", "constraint", "told"),
    [
        ("unknown", Constraint(ConstraintKind.JSON_OBJECT),
         {"response_format": {"type": "json_object"}}),
        ("vllm", Constraint(ConstraintKind.CHOICE, '["a"]'),
         {"structured_outputs": {"choice": ["a"]}}),
        ("sglang", Constraint(ConstraintKind.REGEX, "a+"), {"regex": "a+"}),
        ("llama.cpp", Constraint(ConstraintKind.GRAMMAR, "root ::= x"), {"grammar": "root ::= x"}),
    ],
)  # fmt: skip
def test_a_form(kind: str, constraint: Constraint, told: dict[str, Any]) -> None:
    body = written(ServerKind(kind), constraint=constraint)
    assert {name: body[name] for name in told} == told


def test_a_schema_has_a_name_and_is_strict() -> None:
    form = written(constraint=Constraint(ConstraintKind.JSON_SCHEMA, '{"type": "object"}'))
    assert form["response_format"]["json_schema"] == {
        "name": "answer", "schema": {"type": "object"}, "strict": True,
    }  # fmt: skip


def test_a_budget_that_nobody_insists_on_is_left_out_where_nothing_is_reasoned() -> None:
    budget: dict[str, Any] = {
        "sampling": SamplingFields(thinking_budget=5), "requires_reasoning": False,
    }  # fmt: skip
    assert "thinking_token_budget" in written(ServerKind.LLMSERVE, **budget)
    assert "thinking_token_budget" not in written(
        ServerKind.LLMSERVE, keeps_any_budget=True, **budget
    )


def test_openais_bound_on_tokens_has_its_newer_name() -> None:
    five = SamplingFields(max_tokens=5)
    assert written(ServerKind.OPENAI, sampling=five)["max_completion_tokens"] == 5
    assert written(ServerKind.OPENAI, prompt="x", sampling=five)["max_tokens"] == 5


@pytest.mark.parametrize("owner", [None, 7, "somebody", "system", "vllm", "llamacpp"])
def test_a_kind_is_read_from_whose_the_models_are(owner: Any) -> None:
    known = {"system": "openai", "vllm": "vllm", "llamacpp": "llama.cpp"}
    assert kind_of(owner).value == known.get(owner, "unknown")
