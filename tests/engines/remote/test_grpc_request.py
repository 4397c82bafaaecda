"""From a request to a message, and back by the server that reads it."""

from __future__ import annotations

from dataclasses import replace

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
from llmserve.engines.remote.grpc_request import GRACE_SECONDS, write
from llmserve.errors import InvalidRequest
from llmserve.grpc.translate import request_of

PLAIN = GenerationRequest(id="r", prompt="hello", model="m")
EVERYTHING = SamplingFields(
    max_tokens=5,
    min_tokens=1,
    temperature=0.0,
    top_p=0.9,
    top_k=3,
    min_p=0.1,
    repetition_penalty=1.1,
    presence_penalty=-1.0,
    frequency_penalty=1.0,
    stop=("x", "y"),
    seed=-3,
    ignore_eos=False,
    logit_bias=((2, 1.0), (9, -1.0)),
    logprobs=0,
    stop_token_ids=(4,),
    includes_stop=True,
    skips_special_tokens=False,
    bad_words=("z",),
    allowed_token_ids=(1, 2),
    thinking_budget=7,
)
TOOL = Tool("f", '{"type": "function", "function": {"name": "f"}}', '{"type": "object"}', True)


def as_read_there(request: GenerationRequest) -> GenerationRequest:
    return request_of(write(request, "m", SamplingFields()).message, "r", None, 64)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (replace(PLAIN, shows_token_ids="return_token_ids"), "return_token_ids"),
        (replace(PLAIN, sampling=SamplingFields(prompt_logprobs=0)), "prompt_logprobs"),
        (replace(PLAIN, sampling=SamplingFields(max_tokens=0)), "max_tokens"),
    ],
)
def test_what_does_not_come_back_is_refused_by_name(
    request_: GenerationRequest, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"{param} cannot be served") as caught:
        write(request_, "m", SamplingFields())
    assert caught.value.param == param


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN,
        replace(PLAIN, prompt=(1, 2, 3)),
        replace(PLAIN, adds_special_tokens=False),
        replace(PLAIN, sampling=EVERYTHING),
        replace(PLAIN, defaults=SamplingFields(temperature=1.0, max_tokens=50)),
        replace(PLAIN, cache_salt="s", max_prompt_tokens=-1, requires_reasoning=False),
        replace(
            PLAIN,
            prompt=Conversation(
                messages=(
                    Message("system", "be kind"),
                    Message("developer", "be brief"),
                    Message("user", "hello", name="Anna"),
                    Message("assistant", "", reasoning="hm", tool_calls=(ToolCall("c", "f", "{"),)),
                    Message("tool", "wet", tool_call_id="c"),
                ),
                tools=(TOOL,),
                template_options='{"enable_thinking":false}',
            ),
            tool_choice=ToolChoice(ToolMode.REQUIRED, ("f",), is_parallel=False),
        ),
        replace(
            PLAIN,
            prompt=Conversation(
                (Message("assistant", "and"),), has_generation_prompt=False, continues_last=True
            ),
        ),
    ],
)
def test_the_other_server_reads_the_same_request(request_: GenerationRequest) -> None:
    assert as_read_there(request_) == request_


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (ConstraintKind.JSON_SCHEMA, '{"type":"null"}'),
        (ConstraintKind.JSON_OBJECT, ""),
        (ConstraintKind.REGEX, "a+"),
        (ConstraintKind.CHOICE, '["a","b"]'),
        (ConstraintKind.GRAMMAR, 'start: "a"'),
    ],
)
def test_each_constraint_is_read_there(kind: ConstraintKind, source: str) -> None:
    read = as_read_there(replace(PLAIN, constraint=Constraint(kind, source, "format"))).constraint
    assert read is not None
    assert (read.kind, read.source) == (kind, source)


def test_the_manifest_speaks_where_the_request_is_silent() -> None:
    request = replace(PLAIN, sampling=SamplingFields(top_k=3))
    sent = write(request, "m", SamplingFields(top_k=9, temperature=0.2)).message
    assert (sent.options.sampling.top_k, sent.options.sampling.temperature) == (3, 0.2)


def test_a_choice_among_no_tools_is_not_sent() -> None:
    chat = replace(
        PLAIN,
        prompt=Conversation((Message("user", "hi"),)),
        tool_choice=ToolChoice(ToolMode.NONE, ("f",)),
    )
    assert as_read_there(chat).tool_choice == ToolChoice()


def test_the_call_ends_a_little_after_the_request() -> None:
    assert write(PLAIN, "m", SamplingFields()).timeout_seconds is None
    timed = write(replace(PLAIN, timeout_seconds=3.0), "m", SamplingFields())
    assert timed.timeout_seconds == 3.0 + GRACE_SECONDS
