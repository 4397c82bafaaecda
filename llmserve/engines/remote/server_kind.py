"""Which kind of server an upstream is, and what it can be told beyond OpenAI's own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from llmserve.domain import ConstraintKind

STANDARD: Final[dict[str, str]] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
    "seed": "seed",
}
"""Fields of `SamplingFields` by the names that every server knows them by."""

VLLM: Final[dict[str, str]] = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_tokens",
    "ignore_eos": "ignore_eos",
    "stop_token_ids": "stop_token_ids",
    "includes_stop": "include_stop_str_in_output",
    "skips_special_tokens": "skip_special_tokens",
    "bad_words": "bad_words",
    "allowed_token_ids": "allowed_token_ids",
    "thinking_budget": "thinking_token_budget",
}
"""vLLM's additions, which are this server's too."""


class ServerKind(StrEnum):
    """As a server says in its list of models whose they are."""

    LLMSERVE = "llmserve"
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    OPENAI = "openai"
    UNKNOWN = "unknown"


OWNERS: Final[Mapping[str, ServerKind]] = {
    "llmserve": ServerKind.LLMSERVE,
    "vllm": ServerKind.VLLM,
    "sglang": ServerKind.SGLANG,
    "llamacpp": ServerKind.LLAMA_CPP,
    "openai": ServerKind.OPENAI,
    "openai-internal": ServerKind.OPENAI,
    "system": ServerKind.OPENAI,
}


def kind_of(owner: Any) -> ServerKind:
    """From `owned_by` of one of its models."""
    return OWNERS.get(owner, ServerKind.UNKNOWN) if isinstance(owner, str) else ServerKind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Takes:
    """What a kind of server can be told.

    Attributes:
        sampling: fields of `SamplingFields` by their names there.
        max_tokens: its name of a chat's bound on tokens.
        constraints: by where they stand in a body, for each kind; JSON is in `response_format`.
        formats_texts: whether a raw prompt's continuation may have a form, too.
        template_options: `chat_template_kwargs`.
        turns: `continue_final_message` and `add_generation_prompt`.
        truncation: `truncate_prompt_tokens` and `add_special_tokens`.
        salt: `cache_salt`.
        reasoning: what assistants thought in earlier turns.
        developer: the role, which others get as a system's.
        some_tools: a choice among some of the tools (`allowed_tools`).
        health_path: what answers 200 while it can serve.
    """

    sampling: Mapping[str, str] = field(default_factory=lambda: STANDARD)
    max_tokens: str = "max_tokens"
    constraints: Mapping[ConstraintKind, str] = field(default_factory=dict)
    formats_texts: bool = False
    template_options: bool = False
    turns: bool = False
    truncation: bool = False
    salt: bool = False
    reasoning: bool = False
    developer: bool = False
    some_tools: bool = False
    health_path: str = "/v1/models"


STRUCTURED: Final = {
    ConstraintKind.REGEX: "structured_outputs.regex",
    ConstraintKind.CHOICE: "structured_outputs.choice",
    ConstraintKind.GRAMMAR: "structured_outputs.grammar",
}

TAKES: Final[Mapping[ServerKind, Takes]] = {
    ServerKind.LLMSERVE: Takes(
        sampling=STANDARD | VLLM,
        constraints=STRUCTURED,
        formats_texts=True,
        template_options=True,
        turns=True,
        truncation=True,
        salt=True,
        reasoning=True,
        developer=True,
        some_tools=True,
        health_path="/health/ready",
    ),
    ServerKind.VLLM: Takes(
        sampling=STANDARD | VLLM,
        constraints=STRUCTURED,
        formats_texts=True,
        template_options=True,
        turns=True,
        truncation=True,
        salt=True,
        reasoning=True,
        health_path="/health",
    ),
    ServerKind.SGLANG: Takes(
        sampling=STANDARD
        | {
            name: VLLM[name]
            for name in (
                "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos",
                "stop_token_ids", "skips_special_tokens",
            )
        },
        constraints={ConstraintKind.REGEX: "regex", ConstraintKind.GRAMMAR: "ebnf"},
        formats_texts=True,
        template_options=True,
        turns=True,
        reasoning=True,
        health_path="/health",
    ),
    ServerKind.LLAMA_CPP: Takes(
        sampling=STANDARD
        | {
            "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repeat_penalty",
            "ignore_eos": "ignore_eos",
        },
        constraints={ConstraintKind.GRAMMAR: "grammar"},
        template_options=True,
        reasoning=True,
        health_path="/health",
    ),
    ServerKind.OPENAI: Takes(
        max_tokens="max_completion_tokens", developer=True, some_tools=True
    ),
    ServerKind.UNKNOWN: Takes(),
}  # fmt: skip
