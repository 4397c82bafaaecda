"""What several deployments answer together."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from llmserve.errors import NotReady
from llmserve.workers.ray.merged import (
    Whole,
    merged_lists,
    merged_readiness,
    replaced,
    whole,
)


def answer(content: Any, status: int = 200) -> Whole:
    return Whole(status, [(b"content-type", b"application/json")], orjson.dumps(content))


def ready(name: str, status: str = "ready") -> Whole:
    code = 200 if status == "ready" else 503
    return answer({"status": status, "models": [{"name": name}], "workers": []}, code)


def test_who_is_refused_by_one_is_refused() -> None:
    refusal = answer({"error": {}}, 401)
    assert merged_lists("/v1/models", [answer({"data": []}), refusal]) is refusal


@pytest.mark.parametrize(("path", "field"), [("/v1/models", "data"), ("/api/tags", "models")])
def test_lists_have_everybodys_models(path: str, field: str) -> None:
    both = [answer({field: [{"id": "a"}]}), answer({field: [{"id": "b"}]})]
    merged = merged_lists(path, both)
    assert [model["id"] for model in merged.content[field]] == ["a", "b"]
    assert dict(merged.headers)[b"content-length"] == str(len(merged.body)).encode()


def test_anthropics_list_says_where_it_begins_and_ends() -> None:
    pages = [
        answer({"data": [{"id": name}], "first_id": name, "last_id": name, "has_more": False})
        for name in ("a", "b")
    ]
    content = merged_lists("/v1/models", pages).content
    assert (content["first_id"], content["last_id"]) == ("a", "b")


def test_all_are_ready_or_it_is_said_who_is_not() -> None:
    assert merged_readiness({"a": ready("a"), "b": ready("b")}).status == 200
    draining = merged_readiness({"a": ready("a"), "b": ready("b", "draining")})
    assert (draining.status, draining.content["status"]) == (503, "draining")
    absent = merged_readiness({"a": ready("a"), "b": NotReady("nobody")})
    assert (absent.status, absent.content["status"]) == (503, "loading")
    assert absent.content["models"][1]["error"] == "nobody"
    assert (b"retry-after", b"5") in absent.headers


def test_a_whole_answer_is_made_of_its_messages() -> None:
    start = {"type": "http.response.start", "status": 404, "headers": [[b"content-length", b"2"]]}
    parts = [{"type": "http.response.body", "body": body} for body in (b"a", b"b")]
    made = whole([start, *parts])
    assert (made.status, made.body) == (404, b"ab")
    assert replaced(made, 200, "text").headers == [(b"content-length", b"4")]
