"""What the ingress reads of a request's body: the model, and the digest of the prompt. Everything
else, errors included, is left to the replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from llmserve.checked_json import checked_json
from llmserve.engines.remote.prefix_memory import Digest, digest_of
from llmserve.errors import InvalidRequest

MODEL_FIELDS: Final = ("model", "name", "base_model_name")
"""The second is Ollama's, the third for vLLM's adapters."""
PROMPT_FIELDS: Final = (
    *("system", "instructions", "tools"),
    *("messages", "input", "prompt", "inputs"),
)
"""In the order in which chat templates write them."""


def content_of(body: bytes, max_depth: int) -> Mapping[str, Any]:
    """The fields of a JSON object; none where the body is something else."""
    if not body.lstrip().startswith(b"{"):
        return {}
    try:
        content = checked_json(body, max_depth)
    except (orjson.JSONDecodeError, InvalidRequest):
        return {}
    return content if isinstance(content, dict) else {}


def model_of(content: Mapping[str, Any]) -> str | None:
    """The model that a body names."""
    names = (content.get(field) for field in MODEL_FIELDS)
    return next((name for name in names if isinstance(name, str)), None)


def digest_of_body(content: Mapping[str, Any]) -> Digest:
    """The digest of its prompt. Conversations that begin alike have digests that begin alike."""
    text = b"".join(orjson.dumps(content[field]) for field in PROMPT_FIELDS if field in content)
    return digest_of(text.decode(), salt=str(content.get("cache_salt", "")))
