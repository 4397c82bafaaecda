"""A request that was checked: its prompt is tokens, and every parameter is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmserve.domain import SamplingParams
from llmserve.text.output import IdentityParser, OutputParser

if TYPE_CHECKING:
    from llmserve.engines.token_rule import AnswerRule


@dataclass(frozen=True, slots=True)
class Task:
    """What an engine is given to generate. It does not change any more.

    Attributes:
        prompt_ids: at least one token.
        sampling: resolved, `max_tokens` within the model's context.
        deadline: clock reading at which generation ends, `None` for never.
        caller: whose it is, and `priority`, the caller's share where callers compete.
        is_background: whether it gives way to what is not.
        cache_salt: cached prefixes are shared among tasks of the same salt only.
        new_parser: makes what reads the answer's text.
        new_rule: makes what decides which tokens may come next; `None` if any token may.
        shown_tokens: special tokens whose text the parser reads.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    deadline: float | None = None
    caller: str = ""
    priority: int = 1
    is_background: bool = False
    cache_salt: str = ""
    new_parser: Callable[[], OutputParser] = IdentityParser
    new_rule: Callable[[], AnswerRule] | None = None
    shown_tokens: frozenset[int] = frozenset()
