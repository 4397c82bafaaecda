"""What a newer client sends."""

from __future__ import annotations

from llmserve.grpc.unknown_fields import unknown_fields
from llmserve.proto.v1 import generation_pb2 as pb

NEWER = b"\xa2\x06\x01x"
"""Field 100, a text."""


def test_they_are_found_at_any_depth_and_named_once() -> None:
    message = pb.Message.FromString(pb.Message(content="a").SerializeToString() + NEWER)
    sampling = pb.Sampling.FromString(
        pb.Sampling(top_k=1, logit_bias={1: 1.0}).SerializeToString() + NEWER * 2
    )
    sent = pb.ChatRequest(messages=[message, message], options=pb.Options(sampling=sampling))
    assert unknown_fields(sent, 16) == ["messages.#100", "options.sampling.#100"]
    assert unknown_fields(sent, 1) == ["messages.#100"]


def test_a_known_message_has_none() -> None:
    sent = pb.ChatRequest(
        messages=[pb.Message(role=pb.Message.ROLE_USER, content="a")], template_options="{}"
    )
    assert unknown_fields(sent, 16) == []
