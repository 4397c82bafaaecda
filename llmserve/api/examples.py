"""A body for each route that takes one, and what stands in addresses, to try at `/docs`. The demo's
models answer them, but for classes."""

from __future__ import annotations

from typing import Any, Final

_WEATHER: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": _WEATHER,
    },
}
_WHO: Final = [{"role": "user", "content": "Who are you?"}]
_WHERE: Final = [{"role": "user", "content": "What is the weather in Paris?"}]
_STORY: Final = "Once upon a time"
_WARM: Final = "How do I warm a model?"
_DRAIN: Final = "What does draining do?"

EXAMPLES: Final[dict[str, Any]] = {
    "/generate": {"prompt": _STORY, "max_tokens": 40},
    "/v1/chat/completions": {
        "model": "demo",
        "messages": _WHERE,
        "tools": [_TOOL],
        "temperature": 0,
    },
    "/v1/chat/completions/input_tokens": {"model": "demo", "messages": _WHO},
    "/v1/completions": {"model": "demo", "prompt": _STORY, "max_tokens": 40},
    "/v1/responses": {"model": "demo", "input": "Who are you?", "temperature": 0},
    "/v1/responses/input_tokens": {"model": "demo", "input": "Who are you?"},
    "/v1/batches": {
        "input_file_id": "file-…",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
    "/v1/messages": {
        "model": "demo",
        "max_tokens": 60,
        "messages": _WHERE,
        "tools": [
            {
                "name": "get_weather",
                "description": "The weather in a city.",
                "input_schema": _WEATHER,
            }
        ],
        "temperature": 0,
    },
    "/v1/messages/count_tokens": {"model": "demo", "messages": _WHO},
    "/api/chat": {"model": "demo", "messages": _WHO, "stream": False},
    "/api/generate": {"model": "demo", "prompt": "Who are you?", "stream": False},
    "/api/show": {"model": "demo"},
    "/": {"inputs": _STORY, "parameters": {"max_new_tokens": 40}},
    "/generate_stream": {"inputs": _STORY, "parameters": {"max_new_tokens": 40}},
    "/v1/embeddings": {"input": [_WARM, _DRAIN]},
    "/v1/embed": {"texts": [_WARM, _DRAIN]},
    "/v2/embed": {"texts": [_WARM, _DRAIN], "input_type": "search_document"},
    "/v1/rerank": {"query": _WARM, "documents": [_STORY, _DRAIN]},
    "/v2/rerank": {"query": _WARM, "documents": [_STORY, _DRAIN]},
    "/rerank": {"query": _WARM, "documents": [_STORY, _DRAIN]},
    "/v1/score": {"text_1": _WARM, "text_2": [_STORY, _DRAIN]},
    "/classify": {"input": _WARM},
    "/embed": {"inputs": [_WARM, _DRAIN]},
    "/predict": {"inputs": _WARM},
    "/similarity": {"inputs": {"source_sentence": _WARM, "sentences": [_STORY, _DRAIN]}},
    "/api/embed": {"input": [_WARM, _DRAIN]},
    "/api/embeddings": {"prompt": _WARM},
    "/tokenize": {"model": "demo", "prompt": _STORY},
    "/detokenize": {"model": "demo", "tokens": [100, 200, 300]},
    "/apply-template": {"model": "demo", "messages": _WHO},
    "/admin/load": {"model": "demo"},
    "/admin/unload": {"model": "demo"},
    "/admin/reload": {"model": "demo"},
    "/admin/warm": {"model": "demo", "prompts": ["Hello"]},
    "/admin/drain": {"model": "demo", "upstream": "http://box-a:8000"},
    "/admin/undrain": {"model": "demo", "upstream": "http://box-a:8000"},
}
"""By path."""

JSON: Final = "application/json"
PARAMETERS: Final = {"model": "demo", "prompt": _STORY}
"""By name."""


def with_examples(schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with these in it."""
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in PARAMETERS:
                    parameter["example"] = PARAMETERS[parameter["name"]]
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind == JSON:  # a file has none
                    content["example"] = EXAMPLES[path]
    return schema
