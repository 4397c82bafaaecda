"""A request that was checked: every parameter is decided."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmserve.domain import SamplingParams
from llmserve.text.output import IdentityParser, OutputParser

if TYPE_CHECKING:
    from llmserve.engines.token_rule import AnswerRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(ABC):
    """What an engine is given to generate. It does not change any more.

    Attributes:
        sampling: resolved, `max_tokens` within the model's context.
        deadline: clock reading at which generation ends, `None` for never.
        caller: whose it is, and `priority`, the caller's share where callers compete.
        is_background: whether it gives way to what is not.
        new_parser: makes what reads the answer's text.
    """

    request_id: str
    sampling: SamplingParams
    max_tokens: int
    deadline: float | None = None
    caller: str = ""
    priority: int = 1
    is_background: bool = False
    new_parser: Callable[[], OutputParser] = IdentityParser

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has, or is taken to have until the engine knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTask(Task):
    """One whose prompt was made into tokens here.

    Attributes:
        prompt_ids: at least one token.
        cache_salt: cached prefixes are shared among tasks of the same salt only.
        new_rule: makes what decides which tokens may come next; `None` if any token may.
        shown_tokens: special tokens whose text the parser reads.
        adapter: name of the adapter that it is computed with; `None` for none.
    """

    prompt_ids: tuple[int, ...]
    cache_salt: str = ""
    new_rule: Callable[[], AnswerRule] | None = None
    shown_tokens: frozenset[int] = frozenset()
    adapter: str | None = None

    @property
    def prompt_tokens(self) -> int:
        """As many as there are."""
        return len(self.prompt_ids)
