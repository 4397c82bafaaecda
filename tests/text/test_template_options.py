"""Variables that callers set: none of the server's, and every string is theirs."""

from __future__ import annotations

import json

import pytest

from llmserve.errors import InvalidRequest
from llmserve.text.taint import is_tainted
from llmserve.text.template_options import RESERVED, template_options


@pytest.mark.parametrize("name", [*sorted(RESERVED), "raise_exception"])
def test_what_the_server_sets_is_refused_by_name(name: str) -> None:
    source = json.dumps({"enable_thinking": False, name: "mine"})
    with pytest.raises(InvalidRequest, match=f"{name} is set by the server") as refused:
        template_options(source, {"raise_exception"})
    assert refused.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("source", ["[]", "1", "null", "{", "", "[" * 10**5, '{"a":' * 10**5])
def test_what_is_no_object_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        template_options(source, ())
    assert refused.value.param == "chat_template_kwargs"


def test_values_keep_their_kinds_and_strings_are_the_callers() -> None:
    given = {"a": True, "b": 1.5, "c": None, "d": "x", "e": [{"f": "y"}], "messages2": 1}
    options = template_options(json.dumps(given), ())
    assert options == given
    assert all(is_tainted(options[name]) == (name in "de") for name in given)
    assert is_tainted(list(options["e"][0])), "keys, too"
    assert not is_tainted(list(options)), "names of variables are no text"
