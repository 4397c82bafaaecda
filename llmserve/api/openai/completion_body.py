"""What POST /v1/completions takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag

from llmserve.api.openai.body import OpenAIBody
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, TokenId
from llmserve.api.unsupported import DEFAULTS, Defaults
from llmserve.domain import Prompt, SamplingFields

MAX_LOGPROBS = 5
Text = Annotated[str, Field(min_length=1)]
# fail_fast: a body of megabytes would otherwise have a million errors, one for each item.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _kind(prompt: Any) -> str:
    if not isinstance(prompt, list):
        return "str"
    match prompt[:1]:
        case [str()]:
            return "list[str]"
        case [list()]:
            return "list[list[int]]"
    return "list[int]"


# By its first item's kind: an error in a token id would otherwise be reported as one in a text.
PromptOrPrompts = Annotated[
    Annotated[Text, Tag("str")]
    | Annotated[list[Text], Field(min_length=1, fail_fast=True), Tag("list[str]")]
    | Annotated[TokenIds, Tag("list[int]")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("list[list[int]]")],
    Discriminator(_kind),
]


class CompletionBody(OpenAIBody):
    """POST /v1/completions."""

    defaults: ClassVar[Defaults] = {**DEFAULTS, "add_special_tokens": (True,)}
    sampling_defaults: ClassVar = SamplingFields(temperature=1.0, max_tokens=16)

    prompt: PromptOrPrompts = Field(description="Text, texts, token ids or lists of token ids.")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_TOKENS_LIMIT, description="At most this many new tokens (default 16)."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Return each token's log probability, and those of this many likeliest tokens.",
    )

    @property
    def num_prompts(self) -> int:
        """A text or a list of token ids is one."""
        is_one = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return 1 if is_one else len(self.prompt)

    def prompts(self) -> list[Prompt]:
        """Texts as they are, token ids as tuples."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [tuple(i for i in self.prompt if isinstance(i, int))]
        return [
            p if isinstance(p, str) else tuple(p) for p in self.prompt if not isinstance(p, int)
        ]

    def wanted_sampling(self) -> SamplingFields:
        """With the number of likeliest tokens, if log probabilities are wanted at all."""
        return replace(self.sampling(self.max_tokens), logprobs=self.logprobs)
