"""A request for a generation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from llmserve.domain.constraint import Constraint
from llmserve.domain.conversation import Prompt
from llmserve.domain.sampling import SamplingFields
from llmserve.domain.tools import ToolChoice

WHATEVER_FITS: Final = -1
"""As `max_prompt_tokens`: as many as the model's context holds beside the answer's `max_tokens`."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue, whatever transport brought it.

    Attributes:
        id: the request id in logs and response bodies.
        model: a served name or alias; `None` is the default model.
        defaults: the transport's, for fields that neither the request nor the model sets.
        timeout_seconds: from now until the answer must end, waiting included.
        cache_salt: cached prefixes are shared only among requests with the same salt.
        constraint: what the answer must look like; after the reasoning, if there is any.
        tool_choice: which of the conversation's tools the answer may call.
        max_prompt_tokens: of a longer prompt only the last ones are kept; `None` keeps all.
        adds_special_tokens: a text begins with what the tokenizer puts before every text.
        shows_token_ids: the field by which the caller is to be told ids of tokens, or something
            that only they can tell; empty for none.
        adapter: which of the model's adapters answers, by its own name; `None` for none.
        requires_reasoning: a thinking budget is refused where the model does not reason; otherwise
            such a model keeps every budget.
    """

    id: str
    prompt: Prompt
    model: str | None = None
    sampling: SamplingFields = field(default_factory=SamplingFields)
    defaults: SamplingFields = field(default_factory=SamplingFields)
    timeout_seconds: float | None = None
    cache_salt: str = ""
    constraint: Constraint | None = None
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    max_prompt_tokens: int | None = None
    adds_special_tokens: bool = True
    shows_token_ids: str = ""
    requires_reasoning: bool = True
    adapter: str | None = None
