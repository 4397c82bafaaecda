"""A session with huggingface_hub's client: text generation as TGI serves it, a chat, and
numbers as TEI serves them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import huggingface_hub
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import TextGenerationError
from task import MAX_TOKENS, ROOT, Trip, tell

client = InferenceClient(ROOT, timeout=60)
PROMPT = "Once upon a time"
MOST: dict[str, Any] = {"max_new_tokens": 12}


def streamed(parts: list[Any]) -> dict[str, Any]:
    *early, last = parts
    assert all(part.generated_text is None and part.details is None for part in early)
    return {
        "indices": [part.index for part in parts],
        "texts": [part.token.text for part in parts],
        "logprobs": [part.token.logprob for part in parts],
        "text": last.generated_text,
        "reason": last.details.finish_reason,
        "counts": [last.details.input_length, last.details.generated_tokens],
    }


def detailed() -> dict[str, Any]:
    answer = client.text_generation(
        PROMPT, details=True, decoder_input_details=True, top_n_tokens=2, seed=3, **MOST
    )
    details = answer.details
    return {
        "text": answer.generated_text,
        "reason": details.finish_reason,
        "seed": details.seed,
        "generated_tokens": details.generated_tokens,
        "tokens": [token.text for token in details.tokens],
        "prefill": [token.text for token in details.prefill],
        "prefill_logprobs": [token.logprob for token in details.prefill],
        "top_tokens": [len(likely) for likely in details.top_tokens],
    }


def stopped() -> dict[str, Any]:
    answer = client.text_generation(PROMPT, details=True, stop=[" a"], max_new_tokens=MAX_TOKENS)
    return {"text": answer.generated_text, "reason": answer.details.finish_reason}


def structured() -> dict[str, Any]:
    grammar = {"type": "json", "value": Trip.model_json_schema()}
    return json.loads(
        client.text_generation("A trip: ", grammar=grammar, max_new_tokens=MAX_TOKENS)
    )


def refused(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        list(ask())
    except TextGenerationError as error:
        return {"exception": type(error).__name__, "message": str(error)}
    raise AssertionError("it was not refused")


async def asynchronous() -> list[str]:
    aside = AsyncInferenceClient(ROOT, timeout=60)
    return [text async for text in await aside.text_generation(PROMPT, stream=True, **MOST)]


def told_info() -> dict[str, Any]:
    return InferenceClient(ROOT, provider="hf-inference").get_endpoint_info()


def numbers() -> dict[str, Any]:
    """Text-embeddings-inference's routes, each by its address."""

    def at(path: str) -> InferenceClient:
        return InferenceClient(ROOT + path, timeout=60)

    texts = ["how do I warm a model", "the fox"]
    return {
        "vectors": at("/embed").feature_extraction(texts, normalize=True).tolist(),
        "similarity": at("/similarity").sentence_similarity(texts[0], texts),
    }


tell(
    version=huggingface_hub.__version__,
    plain=client.text_generation(PROMPT, **MOST),
    full=client.text_generation(PROMPT, return_full_text=True, **MOST),
    streamed=list(client.text_generation(PROMPT, stream=True, **MOST)),
    asynchronous=asyncio.run(asynchronous()),
    detailed=detailed(),
    detailed_stream=streamed(
        list(client.text_generation(PROMPT, stream=True, details=True, **MOST))
    ),
    stopped=stopped(),
    structured=structured(),
    truncated=client.text_generation("x " * 3000, truncate=8, **MOST),
    info=told_info(),
    numbers=numbers(),
    errors={
        "temperature": refused(lambda: client.text_generation(PROMPT, temperature=-1)),
        "typical_p": refused(lambda: client.text_generation(PROMPT, typical_p=0.5)),
        "best_of": refused(lambda: client.text_generation(PROMPT, best_of=2)),
        "streamed": refused(lambda: client.text_generation(PROMPT, watermark=True, stream=True)),
        "long": refused(lambda: client.text_generation("x " * 3000)),
    },
)
