"""Fields that nobody knows: a few are kept, the rest is counted, and no body makes that long."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmserve.api.fields import UnknownFields
from llmserve.api.openai.chat_body import ChatBody

MESSAGE = {"role": "user", "content": "hi"}
NAMES = st.lists(st.sampled_from([f"x{i}" for i in range(8)]), unique=True, max_size=6)


def unknown(most: int = 16, **fields: Any) -> UnknownFields:
    return ChatBody.model_validate({"messages": [MESSAGE]} | fields).unknown(most)


def test_none_at_all() -> None:
    found = unknown()
    assert (found.first, list(found), found.more) == (None, [], 0)


def test_the_path_has_no_index_and_the_first_location_has() -> None:
    messages = [MESSAGE, MESSAGE | {"own": 1}, MESSAGE | {"own": 2, "other": 3}]
    found = unknown(messages=messages)
    assert found.first == ("messages", 1, "own")
    assert list(found) == [(("messages",), "own"), (("messages",), "other")]
    assert found.more == 0


def test_what_is_kept_is_counted_no_more_and_the_rest_each_time() -> None:
    messages = [MESSAGE | {"a": 1, "b": 1, "c": 1}] * 10
    found = unknown(2, messages=messages)
    assert [name for _, name in found] == ["a", "b"]
    assert found.more == 10, "`c`, in each of ten messages"


@given(objects=st.lists(NAMES, max_size=6), most=st.integers(1, 8))
def test_it_agrees_with_a_plain_count(objects: list[list[str]], most: int) -> None:
    messages = [MESSAGE | dict.fromkeys(names, 1) for names in objects]
    found = unknown(most, messages=[MESSAGE, *messages])
    sent = [name for names in objects for name in names]
    kept = list(dict.fromkeys(sent))[:most]
    assert [name for _, name in found] == kept
    assert found.more == sum(name not in kept for name in sent)


def test_a_body_of_megabytes_is_walked_in_a_moment() -> None:
    wide = ChatBody.model_validate({"messages": [MESSAGE]} | {f"x{i}": 1 for i in range(300_000)})
    long = ChatBody.model_validate({"messages": [MESSAGE | {"own": 1}] * 100_000})
    for body, more in ((wide, 300_000 - 16), (long, 0)):
        begun = time.perf_counter()
        assert body.unknown(16).more == more
        assert time.perf_counter() - begun < 1.0  # 0.1 s on an idle machine
