"""Every field of OpenAI's references for chats, completions and embeddings, and what others add to
them; and what becomes of it here. The names are data; the rest is read from the bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import orjson

from llmserve.api.fields import Fields
from llmserve.api.no_op import MARK
from llmserve.api.openai.chat_body import ChatBody
from llmserve.api.openai.completion_body import CompletionBody
from llmserve.api.openai.embedding_body import EmbeddingBody
from llmserve.api.unsupported import DEFAULTS


class Status(StrEnum):
    """What becomes of a field."""

    SUPPORTED = "supported"
    NO_OP = "no-op"
    REFUSED = "refused"
    TOLD = "ignored, and told so"
    ABSENT = "-"


OPENAI_CHAT: Final = (
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model",
    "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
    "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
)  # fmt: skip
OPENAI_COMPLETIONS: Final = (
    "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "model", "n",
    "presence_penalty", "prompt", "seed", "stop", "stream", "stream_options", "suffix",
    "temperature", "top_p", "user",
)  # fmt: skip
VLLM_BOTH: Final = (
    "add_special_tokens", "allowed_token_ids", "bad_words", "cache_salt", "ec_transfer_params",
    "guided_choice", "guided_grammar", "guided_json", "guided_regex", "ignore_eos",
    "include_stop_str_in_output", "kv_transfer_params", "length_penalty", "logits_processors",
    "logprob_token_ids", "min_p", "min_tokens", "priority", "prompt_logprobs",
    "repetition_detection", "repetition_penalty", "request_id", "response_format",
    "return_token_ids", "return_tokens_as_token_ids", "session_id", "skip_special_tokens",
    "spaces_between_special_tokens", "stop_token_ids", "stream_interval", "structured_outputs",
    "thinking_token_budget", "top_k", "truncate_prompt_tokens", "truncation_side",
    "use_beam_search", "vllm_xargs", "watermarking",
)  # fmt: skip
VLLM_CHAT: Final = (
    "add_generation_prompt", "chat_template", "chat_template_kwargs", "continue_final_message",
    "documents", "echo", "include_reasoning", "media_io_kwargs", "mm_processor_kwargs",
    "return_prompt_text",
)  # fmt: skip
VLLM_COMPLETIONS: Final = ("prompt_embeds",)
OPENAI_EMBEDDINGS: Final = ("dimensions", "encoding_format", "input", "model", "user")
OTHER_EMBEDDINGS: Final = (
    "add_special_tokens", "cache_salt", "chat_template", "embed_dtype", "endianness", "input_type",
    "messages", "mm_processor_kwargs", "normalize", "priority", "prompt_name", "request_id",
    "truncate", "truncate_prompt_tokens", "truncation_side", "use_activation",
)  # fmt: skip

ROUTES: Final[Mapping[str, tuple[type[Fields], tuple[str, ...]]]] = {
    "chat": (ChatBody, OPENAI_CHAT + VLLM_BOTH + VLLM_CHAT),
    "completions": (CompletionBody, OPENAI_COMPLETIONS + VLLM_BOTH + VLLM_COMPLETIONS),
    "embeddings": (EmbeddingBody, OPENAI_EMBEDDINGS + OTHER_EMBEDDINGS),
}


def status(body: type[Fields], name: str) -> Status:
    """What becomes of a field in this body."""
    field = body.on_the_wire().get(name)
    if field is not None:
        extra = field.json_schema_extra
        is_no_op = isinstance(extra, dict) and MARK.items() <= extra.items()
        return Status.NO_OP if is_no_op else Status.SUPPORTED
    is_refused = name in body.unsupported or name in body.served_elsewhere
    return Status.REFUSED if is_refused else Status.TOLD


def rows() -> Iterator[tuple[str, tuple[Status, ...], str]]:
    """Name, status on each route, and a remark, in alphabetical order."""
    names = sorted({name for _, known in ROUTES.values() for name in known})
    for name in names:
        found = tuple(
            status(body, name) if name in known else Status.ABSENT
            for body, known in ROUTES.values()
        )
        yield name, found, _remark(name, found)


def table() -> str:
    """All of it, as Markdown."""
    lines = [_row(["field", *ROUTES, ""]), "| --- " * (len(ROUTES) + 2) + "|"]
    lines += [_row([f"`{name}`", *found, remark]) for name, found, remark in rows()]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _remark(name: str, found: Sequence[Status]) -> str:
    for body, known in ROUTES.values():
        if name not in known:
            continue
        field = body.on_the_wire().get(name)
        if field is not None:
            return field.description or ""
    if Status.REFUSED in found and name in DEFAULTS:
        told = ", ".join(f"`{_shown(value)}`" for value in DEFAULTS[name])
        return f"its default is accepted: {told}"
    return ""


def _shown(value: object) -> str:
    """As JSON writes it."""
    return orjson.dumps(value).decode()
