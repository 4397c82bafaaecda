"""What POST /v1/completions takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from llmserve.api.openai.body import MAX_CHOICES, OpenAIBody
from llmserve.api.openai.shown import Shown
from llmserve.api.sampling_body import MAX_TOKENS_LIMIT, TokenId
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

    sampling_defaults: ClassVar = SamplingFields(temperature=1.0, max_tokens=16)

    prompt: PromptOrPrompts = Field(description="Text, texts, token ids or lists of token ids.")
    echo: bool | None = Field(
        None,
        description="Return the prompt before the completion; with `logprobs`, those of its tokens "
        "too.",
    )
    add_special_tokens: bool | None = Field(
        None,
        description="Whether a text begins with what the tokenizer puts before every text, usually "
        "a token or none (default true; vLLM's field).",
    )
    best_of: int | None = Field(
        None,
        ge=1,
        le=MAX_CHOICES,
        description="Generate this many and return the `n` with the highest mean log probability "
        "per token; not with `stream`. The usage counts all.",
    )
    max_tokens: int | None = Field(
        None,
        ge=0,
        le=MAX_TOKENS_LIMIT,
        description="At most this many new tokens (default 16); 0 only with `echo` or "
        "`prompt_logprobs`.",
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MAX_LOGPROBS,
        description="Return each token's log probability, and those of this many likeliest tokens.",
    )

    @field_validator("best_of")
    @classmethod
    def _best_of_more(cls, best_of: int | None, others: ValidationInfo) -> int | None:
        n = others.data.get("n") or 1
        if best_of is not None and best_of < n:
            raise ValueError(f"{best_of} answers are fewer than `n`, which is {n}")
        if best_of is not None and best_of > n and others.data.get("stream"):
            raise ValueError("which answers are best is known at their end; leave `stream` out")
        return best_of

    @field_validator("max_tokens")
    @classmethod
    def _none_only_with_prompt(cls, max_tokens: int | None, others: ValidationInfo) -> int | None:
        has_prompt = others.data.get("echo") or others.data.get("prompt_logprobs") is not None
        if max_tokens == 0 and not has_prompt:
            raise ValueError("0 is for requests with `echo` or `prompt_logprobs`")
        return max_tokens

    @property
    def choices_per_prompt(self) -> int:
        """How many are generated: `best_of`, or `n`."""
        return self.best_of or super().choices_per_prompt

    @property
    def tells_logprobs(self) -> bool:
        """Whether the client wants them; the best answers are found by them, too."""
        return self.logprobs is not None

    @property
    def shown(self) -> Shown:
        """What its choices contain."""
        n = super().choices_per_prompt
        return replace(super().shown, best=n if n < self.choices_per_prompt else None)

    @property
    def scored_top(self) -> int | None:
        """For `prompt_logprobs`, and for the log probabilities of an echoed prompt."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((top for top in wanted if top is not None), default=None)

    @property
    def adds_special_tokens(self) -> bool:
        """As it says, otherwise yes."""
        return self.add_special_tokens is not False

    @property
    def echoed(self) -> list[str | None] | None:
        """The text of each prompt as the client sent it, `None` where only its tokens can tell;
        `None` without `echo`."""
        if not self.echo:
            return None
        is_whole = self.truncate_prompt_tokens is None
        return [p if isinstance(p, str) and is_whole else None for p in self.prompts()]

    @property
    def shows_token_ids(self) -> str:
        """An echo may need them, too: of a prompt whose text nobody has sent."""
        needs_ids = any(text is None for text in self.echoed or ())
        return super().shows_token_ids or ("echo" if needs_ids else "")

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
        is_compared = self.choices_per_prompt > (self.n or 1)
        logprobs = 0 if self.logprobs is None and is_compared else self.logprobs
        return replace(self.sampling(self.max_tokens), logprobs=logprobs)
