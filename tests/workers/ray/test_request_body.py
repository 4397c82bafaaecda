"""What the ingress reads of a body: nonsense first."""

from __future__ import annotations

import pytest

from llmserve.workers.ray.request_body import content_of, digest_of_body, model_of


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", b'{"a": NaN}', b"[" * 99])
def test_of_what_is_no_object_nothing_is_known(body: bytes) -> None:
    assert content_of(body, 64) == {}


def test_what_is_nested_too_deeply_is_left_to_the_replica() -> None:
    assert content_of(b'{"a":' * 5 + b"1" + b"}" * 5, 4) == {}


@pytest.mark.parametrize(
    ("content", "model"),
    [({}, None), ({"model": 7}, None), ({"model": "a", "name": "b"}, "a"), ({"name": "b"}, "b")],
)
def test_the_model_is_named_by_one_of_two_fields(
    content: dict[str, object], model: str | None
) -> None:
    assert model_of(content) == model


def test_conversations_that_begin_alike_have_digests_that_begin_alike() -> None:
    first = {"role": "user", "content": "Tell me a long story about a fox. " * 10}
    more = [first, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Why?"}]
    one, two = digest_of_body({"messages": [first]}), digest_of_body({"messages": more})
    assert len(one) > 3
    assert two[: len(one) - 1] == one[:-1]
    assert digest_of_body({"messages": [first], "cache_salt": "x"})[0] != one[0]
    assert digest_of_body({"temperature": 0}) == ()
