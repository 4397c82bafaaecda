"""A session with the libraries that ask for embeddings and for rerank: what each sends, and what it
makes of the answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cohere
import litellm
import ollama
import openai
from langchain_openai import OpenAIEmbeddings
from task import MODEL, ROOT, URL, tell

RANKER, GENERATOR = sys.argv[3:5]
TEXTS = ["how do I warm a model", "the fox", "Rain!"]
QUERY = "the little fox"
DOCUMENTS = ["what is the weather in Paris today", "the little fox ran over the hill", "keys"]


def refused(ask: Callable[[], Any], kind: type[Exception]) -> dict[str, Any]:
    try:
        ask()
    except kind as error:
        return {"exception": type(error).__name__, "words": str(error)}
    raise AssertionError("it was not refused")


def by_openai() -> dict[str, Any]:
    client = openai.OpenAI(base_url=URL, api_key="none", timeout=60, max_retries=0)
    answer = client.embeddings.create(model=MODEL, input=TEXTS)  # it asks for base64 by itself
    digits = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    short = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=8, user="me")
    return {
        "vectors": [one.embedding for one in answer.data],
        "digits": [one.embedding for one in digits.data],
        "tokens": [answer.usage.prompt_tokens, answer.usage.total_tokens],
        "model": answer.model,
        "short": short.data[0].embedding,
        "error": refused(
            lambda: client.embeddings.create(model=GENERATOR, input="a"), openai.BadRequestError
        ),
        "chat": refused(
            lambda: client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hi"}]
            ),
            openai.BadRequestError,
        ),
    }


async def at_once() -> Sequence[Sequence[float]]:
    async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0) as client:
        asked = [client.embeddings.create(model=MODEL, input=text) for text in TEXTS]
        return [answer.data[0].embedding for answer in await asyncio.gather(*asked)]


def by_langchain() -> dict[str, Any]:
    """It sends OpenAI's token ids unless it is told not to count them."""
    client = OpenAIEmbeddings(
        model=MODEL,
        base_url=URL,
        api_key="none",
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    return {
        "vectors": client.embed_documents(TEXTS),
        "query": client.embed_query(TEXTS[0]),
        "asynchronous": asyncio.run(client.aembed_query(TEXTS[0])),
    }


def by_litellm() -> dict[str, Any]:
    litellm.suppress_debug_info = True
    answer = litellm.embedding(f"openai/{MODEL}", TEXTS, api_base=URL, api_key="none")
    ranked = {
        provider: litellm.rerank(
            f"{provider}/{RANKER}",
            QUERY,
            list(DOCUMENTS),
            top_n=2,
            api_base=base,
            api_key="none",
        )
        for provider, base in (("cohere", ROOT), ("jina_ai", URL), ("hosted_vllm", URL))
    }
    return {
        "vectors": [one["embedding"] for one in answer.data],
        "tokens": answer.usage.prompt_tokens,
        "ranked": {
            name: [[one["index"], one["relevance_score"]] for one in told.results]
            for name, told in ranked.items()
        },
    }


def by_cohere() -> dict[str, Any]:
    client = cohere.ClientV2(api_key="none", base_url=ROOT, timeout=60)
    old = cohere.Client(api_key="none", base_url=ROOT, timeout=60)
    whole = client.rerank(model=RANKER, query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=4096)
    first = old.rerank(
        model=RANKER, query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=True
    )
    embedded = client.embed(
        model=MODEL, texts=TEXTS, input_type="search_document", embedding_types=["float"]
    )
    before = old.embed(model=MODEL, texts=TEXTS, input_type="search_document")
    return {
        "vectors": embedded.embeddings.float_,
        "old": before.embeddings,
        "tokens": embedded.meta.billed_units.input_tokens,
        "ranked": [[one.index, one.relevance_score] for one in whole.results],
        "texts": [one.document.text for one in first.results],
        "error": refused(
            lambda: client.rerank(model=GENERATOR, query=QUERY, documents=DOCUMENTS),
            cohere.BadRequestError,
        ),
    }


def by_ollama() -> dict[str, Any]:
    client = ollama.Client(host=ROOT, timeout=60)
    answer = client.embed(f"{MODEL}:latest", TEXTS)
    return {
        "vectors": [list(one) for one in answer.embeddings],
        "counts": [answer.prompt_eval_count, answer.total_duration, answer.load_duration],
        "old": list(client.embeddings(MODEL, TEXTS[0]).embedding),
        "loaded": list(client.embed(MODEL, []).embeddings),
        "capabilities": client.show(MODEL).capabilities,
        "error": refused(lambda: client.embed(GENERATOR, "a"), ollama.ResponseError),
    }


tell(
    openai=by_openai(),
    at_once=asyncio.run(at_once()),
    langchain=by_langchain(),
    litellm=by_litellm(),
    cohere=by_cohere(),
    ollama=by_ollama(),
)
