"""What becomes of every field of the references."""

from __future__ import annotations

import typing

import openai.types.chat.completion_create_params as chat_params
import openai.types.completion_create_params as completion_params
import openai.types.embedding_create_params as embedding_params
import pytest

from llmserve.api.openai.reference import (
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_EMBEDDINGS,
    ROUTES,
    Status,
    rows,
    status,
    table,
)

STREAM = {"stream"}
"""Declared apart in OpenAI's package."""


def test_it_has_every_field_of_openais_package() -> None:
    for params, names in ((chat_params, OPENAI_CHAT), (completion_params, OPENAI_COMPLETIONS)):
        declared = set(typing.get_type_hints(params.CompletionCreateParamsBase))
        assert declared == set(names) - STREAM
    declared = set(typing.get_type_hints(embedding_params.EmbeddingCreateParams))
    assert declared == set(OPENAI_EMBEDDINGS)


@pytest.mark.parametrize(
    ("route", "name", "expected"),
    [
        ("chat", "tools", Status.SUPPORTED),
        ("chat", "metadata", Status.NO_OP),
        ("completions", "user", Status.NO_OP),
        ("chat", "audio", Status.REFUSED),
        ("completions", "suffix", Status.REFUSED),
        ("chat", "priority", Status.TOLD),
        ("embeddings", "encoding_format", Status.SUPPORTED),
        ("embeddings", "cache_salt", Status.NO_OP),
        ("embeddings", "messages", Status.REFUSED),
    ],
)
def test_each_status_is_read_from_the_body(route: str, name: str, expected: Status) -> None:
    assert status(ROUTES[route][0], name) is expected


def test_of_openais_fields_hardly_any_is_told_as_ignored() -> None:
    told = {name for name, found, _ in rows() if Status.TOLD in found}
    assert told & {*OPENAI_CHAT, *OPENAI_COMPLETIONS, *OPENAI_EMBEDDINGS} == {"moderation"}


def test_the_table_has_a_line_for_each_field() -> None:
    lines = table().splitlines()
    names = [line.split("`")[1] for line in lines[2:]]
    assert names == sorted({name for _, known in ROUTES.values() for name in known})
    assert all(line.count(" | ") == 4 for line in lines)
