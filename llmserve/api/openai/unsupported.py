"""Fields of OpenAI's API (and vLLM's additions to it) that this server knows of and refuses."""

from __future__ import annotations

from typing import Any, Final

UNSUPPORTED_FIELDS: Final = frozenset(
    {
        "allowed_token_ids",
        "audio",
        "bad_words",
        "best_of",
        "chat_template_kwargs",
        "echo",
        "function_call",
        "functions",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_logprobs",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "stop_token_ids",
        "store",
        "structured_outputs",
        "suffix",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
    }
)


def without_absent(body: Any) -> Any:
    """Drop unsupported fields whose value means absence: null, false, an empty list or object."""
    if not isinstance(body, dict):
        return body
    return {k: v for k, v in body.items() if k not in UNSUPPORTED_FIELDS or not _is_absence(v)}


def _is_absence(value: Any) -> bool:
    return value is None or value is False or value in ([], {})
