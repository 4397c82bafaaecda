"""Fields that we know and do not serve: refused by name, because they would change the answer.

They are from OpenAI's API, from vLLM's additions to it, and from other servers, which have names
of their own for the length of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Defaults = Mapping[str, tuple[Any, ...]]

UNSUPPORTED_FIELDS: Final = frozenset(
    {
        "audio",
        "chat_template",
        "documents",
        "ec_transfer_params",
        "image_data",
        "images",
        "kv_transfer_params",
        "length_penalty",
        "logits_processors",
        "logprob_token_ids",
        "max_new_tokens",
        "max_output_tokens",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "modalities",
        "multi_modal_data",
        "n_predict",
        "prompt_embeds",
        "repetition_detection",
        "return_prompt_text",
        "spaces_between_special_tokens",
        "suffix",
        "truncation_side",
        "use_beam_search",
        "vllm_xargs",
        "watermarking",
        "web_search_options",
    }
)
"""At the top level of a request."""

SERVED_ELSEWHERE: Final = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "background",
        "bad_words",
        "best_of",
        "cache_salt",
        "chat_template_kwargs",
        "continue_final_message",
        "ebnf",
        "echo",
        "function_call",
        "functions",
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "include_reasoning",
        "json_schema",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "messages",
        "n",
        "parallel_tool_calls",
        "prompt",
        "prompt_logprobs",
        "reasoning_effort",
        "regex",
        "response_format",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "stop_token_ids",
        "stream",
        "stream_options",
        "structured_outputs",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncate_prompt_tokens",
        "verbosity",
        "webhook_url",
    }
)
"""Fields that some of our routes serve; the others refuse them."""

FIELDS_OF_OTHER_INPUT: Final[Mapping[str, str]] = {
    "audio_url": "audio",
    "file": "files",
    "image": "images",
    "image_data": "images",
    "image_embeds": "images",
    "image_url": "images",
    "images": "images",
    "input_audio": "audio",
    "multi_modal_data": "images",
    "video_url": "videos",
}
"""Fields for what is no text, and what they have; refused as such where they are unsupported."""

UNSUPPORTED_IN_MESSAGES: Final = frozenset({"audio"})
UNSUPPORTED_IN_PARTS: Final = frozenset(
    {
        "audio_url",
        "file",
        "image_embeds",
        "image_url",
        "input_audio",
        "thinking",
        "video_url",
    }
)

DEFAULTS: Final[Defaults] = {
    "add_generation_prompt": (True,),
    "best_of": (1,),
    "function_call": ("none", "auto"),
    "length_penalty": (1, 1.0),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "priority": (0,),
    "reasoning_effort": ("none", "medium"),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "spaces_between_special_tokens": (True,),
    "tool_choice": ("none", "auto"),
    "truncation_side": ("left",),
    "verbosity": ("medium",),
}
"""The documented defaults of fields that a route does not serve: sending one asks for nothing."""


def asks_for_nothing(name: str, value: Any, defaults: Defaults) -> bool:
    """Whether a field that we do not serve has a value that means absence.

    That is null, false, and everything empty, or a documented default; but false does not mean
    absence where the default is true.
    """
    value = _without_nothing(value)
    documented = defaults.get(name, ())
    if any(type(value) is type(default) and value == default for default in documented):
        return True
    if value is False:
        return True not in documented
    return value is None or value in ("", [], {})


def _without_nothing(value: Any) -> Any:
    """Without the fields, at any depth of an object, that are null or objects of such fields.

    A false or an empty text inside may be what the client wants: `{"enable_thinking": false}`.
    """
    if not isinstance(value, dict):
        return value
    parts = ((name, _without_nothing(part)) for name, part in value.items())
    return {name: part for name, part in parts if part is not None and part != {}}
