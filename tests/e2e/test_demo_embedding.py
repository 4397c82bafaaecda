"""The demo's embedding model through a real server: it finds what a question is about."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import openai
import pytest
from demo_corpus.dialogues import read_faq
from demo_corpus.pairs import entry_text
from rephrased_questions import REPHRASED
from server import Server

FAQ = read_faq()
MODEL = "demo-embedding"
FOX = "Once upon a time a little fox lost his red ball near the river, and an owl helped him."


def embedded(demo: Server, texts: list[str], **fields: Any) -> np.ndarray[Any, Any]:
    """Rows of length 1."""
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="unused")
    answer = client.embeddings.create(model=MODEL, input=texts, **fields)
    assert answer.usage.prompt_tokens > len(texts)
    return np.array([each.embedding for each in answer.data])


def reranked(demo: Server, query: str, documents: list[str]) -> list[dict[str, Any]]:
    body = {"model": MODEL, "query": query, "documents": documents}
    answer = httpx.post(demo.url + "/v1/rerank", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


@pytest.mark.parametrize("dimensions", [None, 64])
def test_a_question_in_other_words_finds_its_entry_among_three(
    demo: Server, dimensions: int | None
) -> None:
    fields = {} if dimensions is None else {"dimensions": dimensions}
    entries = embedded(demo, [entry_text(entry) for entry in FAQ], **fields)
    questions = embedded(demo, list(REPHRASED.values()), **fields)
    nearest = np.argsort(-questions @ entries.T, axis=1)[:, :3]
    missed = {
        name: [FAQ[index].id for index in found]
        for name, found in zip(REPHRASED, nearest, strict=True)
        if name not in [FAQ[index].id for index in found]
    }
    assert len(REPHRASED) == 48
    assert len(missed) <= 8, missed


def test_rerank_puts_the_entry_among_the_first_as_the_embeddings_do(demo: Server) -> None:
    documents = [entry_text(entry) for entry in FAQ]
    question = REPHRASED["port"]
    results = reranked(demo, question, documents)
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert "port" in [FAQ[result["index"]].id for result in results[:3]]
    similar = embedded(demo, documents) @ embedded(demo, [question])[0]
    assert [result["index"] for result in results[:5]] == np.argsort(-similar)[:5].tolist()


def test_texts_about_the_same_thing_are_nearer_than_others(demo: Server) -> None:
    asked, same, story, tale = embedded(
        demo,
        [
            "How do I stop the server?",
            "Is there a graceful shutdown?",
            "Tell me a story about a fox.",
            FOX,
        ],
    )
    assert asked @ same > asked @ story
    assert asked @ same > asked @ tale
    assert story @ tale > story @ asked
    assert np.allclose([asked @ asked, tale @ tale], 1, atol=1e-4)
