"""Strict JSON: too deep, then the rest."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.checked_json import ORJSON_MAX_DEPTH, checked_json
from llmserve.errors import InvalidRequest


def test_what_is_nested_too_deeply_is_refused_with_the_limit() -> None:
    for opener, closer in (("[", "]"), ('{"a":', "}")):
        inner = "1"
        fits = opener * 64 + inner + closer * 64
        assert checked_json(fits.encode(), 64)
        with pytest.raises(InvalidRequest, match="limit of 64 levels"):
            checked_json((opener * 65 + inner + closer * 65).encode(), 64)


def test_orjson_takes_as_many_levels_as_its_documentation_says() -> None:
    deepest = b"[" * ORJSON_MAX_DEPTH + b"]" * ORJSON_MAX_DEPTH
    assert orjson.loads(deepest)
    with pytest.raises(orjson.JSONDecodeError, match="limit"):
        orjson.loads(b"[" + deepest + b"]")


@pytest.mark.parametrize("levels", [65, 1024, 1025, 100_000])
def test_deeper_than_orjson_goes_names_our_limit_too(levels: int) -> None:
    with pytest.raises(InvalidRequest, match="limit of 64 levels"):
        checked_json(b"[" * levels + b"]" * levels, 64)


@pytest.mark.parametrize("escape", ["],[", "]]],[[[", "],", "[", "]", "1,2", "", "]" * 2000])
@pytest.mark.parametrize("filler", ["", "[" + "[]," * 100 + "[]]"])
def test_no_text_closes_what_its_depth_is_measured_with(escape: str, filler: str) -> None:
    for body in (escape + filler, filler + escape, f"1{escape}{filler}"):
        try:
            expected = orjson.loads(body)
        except orjson.JSONDecodeError:
            with pytest.raises(orjson.JSONDecodeError):
                checked_json(body, 4)
        else:
            assert checked_json(body, 4) == expected


def test_what_is_wrong_is_told_in_the_clients_own_lines_and_columns() -> None:
    body = "[" + "[]," * 100 + "oops]"
    with pytest.raises(orjson.JSONDecodeError) as ours:
        checked_json(body, 64)
    with pytest.raises(orjson.JSONDecodeError) as plain:
        orjson.loads(body)
    assert str(ours.value) == str(plain.value)


def test_wide_is_not_deep() -> None:
    wide = "[" + ",".join(["[]", "{}"] * 1000) + "]"
    assert len(checked_json(wide, 4)) == 2000


def test_brackets_inside_strings_are_text() -> None:
    text = '"[[[[[[ \\" {{{{{{ \\\\"'
    assert checked_json(f"[{text}, {text}]", 4)
    assert checked_json(f'{{"{"[" * 50}": [1, 2]}}', 4)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"NaN", b"[1,]", b"\xff", b'"\\ud800"', b"\xef\xbb\xbf1"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        checked_json(body, 64)


def test_a_lone_surrogate_in_text_is_no_json() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        checked_json('"\ud800"', 64)


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
