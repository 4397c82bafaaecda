"""gRPC from a client in another process, beside HTTP: ways out first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from server import Server

import llmserve.grpc
from llmserve.proto.v1 import generation_pb2 as pb
from llmserve.proto.v1.generation_pb2_grpc import GenerationStub

KEY = (("authorization", "Bearer k1"),)
GREEDY = pb.Options(sampling=pb.Sampling(temperature=0, max_tokens=12, ignore_eos=True))
LONG = pb.GenerateRequest(
    text="hi", options=pb.Options(sampling=pb.Sampling(max_tokens=2000, ignore_eos=True))
)


@pytest.fixture
def stub(guarded: Server) -> Iterator[Any]:
    """What it did leaves nothing running, and no traceback."""
    logged = len(guarded.log)
    with grpc.insecure_channel(guarded.grpc_address) as channel:
        yield GenerationStub(channel)
    guarded.wait_for_load(0, 0)
    assert "Traceback" not in guarded.log[logged:]
    assert "ERROR" not in guarded.log[logged:]


def refusal(call: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value


def test_a_cancelled_stream_frees_its_slot(stub: Any, guarded: Server) -> None:
    call = stub.Generate(LONG, metadata=KEY)
    while next(call).WhichOneof("event") != "delta":
        pass
    assert guarded.load() == (1, 0)
    call.cancel()
    guarded.wait_for_load(0, 0)


def test_a_deadline_ends_a_stream(stub: Any, guarded: Server) -> None:
    error = refusal(stub.Generate(LONG, metadata=KEY, timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    guarded.wait_for_load(0, 0)


def test_a_wrong_key_and_an_oversized_message(stub: Any) -> None:
    error = refusal(stub.Generate(LONG, metadata=(("authorization", "Bearer k9"),)))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    large = pb.GenerateRequest(text="a" * 200_001)
    error = refusal(stub.Generate(large, metadata=KEY))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_needs_no_key(guarded: Server) -> None:
    with grpc.insecure_channel(guarded.grpc_address) as channel:
        health = HealthStub(channel)
        for name in ("", "tiny"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_greedy_answer_is_the_one_that_http_gives(stub: Any, guarded: Server) -> None:
    events = list(stub.Generate(pb.GenerateRequest(text="Hello", options=GREEDY), metadata=KEY))
    body = {"prompt": "Hello", "temperature": 0, "max_tokens": 12, "ignore_eos": True}
    headers = {"Authorization": "Bearer k1"}
    answer = httpx.post(guarded.url + "/generate", json=body, headers=headers, timeout=60).json()
    assert "".join(event.delta.text for event in events) == answer["result"]
    last = events[-1].finish
    assert last.reason == pb.Finish.REASON_LENGTH
    assert last.usage.completion_tokens == answer["usage"]["completion_tokens"] == 12
    counted = guarded.metric("llmserve_grpc_requests_total", status="OK")
    assert counted >= 1


def test_a_prompt_is_scored(stub: Any) -> None:
    sampling = pb.Sampling(max_tokens=0, prompt_logprobs=1)
    request = pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=[5, 6, 7]), options=pb.Options(sampling=sampling)
    )
    events = list(stub.Generate(request, metadata=KEY))
    told = [token for event in events for token in event.prompt_logprobs.tokens]
    assert [token.token.token_id for token in told] == [6, 7]
    assert all(token.rank >= 1 and token.token.logprob < 0 for token in told)
    assert events[-1].finish.usage == pb.Usage(prompt_tokens=3)


def test_a_chat_with_a_format(stub: Any) -> None:
    request = pb.ChatRequest(
        messages=[pb.Message(role=pb.Message.ROLE_USER, content="yes or no?")],
        options=pb.Options(
            constraint=pb.Constraint(choice=pb.Constraint.Choice(texts=["yes", "no"]))
        ),
    )
    events = list(stub.Chat(request, metadata=KEY))
    assert "".join(event.delta.text for event in events) in {"yes", "no"}
    assert events[-1].finish.reason == pb.Finish.REASON_STOP


def test_the_client_of_the_page_runs(guarded: Server, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(llmserve.grpc.__file__).with_name("README.md").read_text()
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = program.replace("127.0.0.1:9000", guarded.grpc_address).replace("YOUR_KEY", "k1")
    exec(program, {})
    assert "completion_tokens: " in capsys.readouterr().out
