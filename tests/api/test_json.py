"""Strict JSON: too deep, then the rest."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.api.json import checked_json
from llmserve.errors import InvalidRequest


def test_what_is_nested_too_deeply_is_refused_with_the_limit() -> None:
    for opener, closer in (("[", "]"), ('{"a":', "}")):
        inner = "1"
        fits = opener * 64 + inner + closer * 64
        assert checked_json(fits.encode(), 64)
        with pytest.raises(InvalidRequest, match="limit of 64 levels"):
            checked_json((opener * 65 + inner + closer * 65).encode(), 64)


def test_wide_is_not_deep() -> None:
    wide = "[" + ",".join(["[]", "{}"] * 1000) + "]"
    assert len(checked_json(wide, 4)) == 2000


def test_brackets_inside_strings_are_text() -> None:
    text = '"[[[[[[ \\" {{{{{{ \\\\"'
    assert checked_json(f"[{text}, {text}]", 4)
    assert checked_json(f'{{"{"[" * 50}": [1, 2]}}', 4)


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"[1,]", b"\xff", b'"\\ud800"', b"[" * 2000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        checked_json(body, 64)


def test_of_duplicate_keys_the_last_counts() -> None:
    assert checked_json(b'{"a": 1, "a": 2}', 64) == {"a": 2}


leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.text()
trees = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def depth_of(tree: object) -> int:
    if isinstance(tree, dict):
        return 1 + max(map(depth_of, tree.values()), default=0)
    if isinstance(tree, list):
        return 1 + max(map(depth_of, tree), default=0)
    return 0


@given(trees, st.integers(0, 6))
def test_the_depth_is_that_of_the_tree(tree: object, limit: int) -> None:
    body = orjson.dumps(tree)
    if depth_of(tree) > limit:
        with pytest.raises(InvalidRequest):
            checked_json(body, limit)
    else:
        assert checked_json(body, limit) == tree
