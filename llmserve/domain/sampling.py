"""Sampling and stop conditions: as requested, as resolved, and as a model requires them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final, Self

GREEDY_BELOW: Final = 1e-4
"""Temperatures up to this are greedy: dividing by them would overflow."""


@dataclass(frozen=True, slots=True)
class SamplingFields:
    """Sampling as a request, a manifest or a default sets it; `None` leaves a field open."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    ignore_eos: bool | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_token_ids: tuple[int, ...] | None = None
    includes_stop: bool | None = None
    skips_special_tokens: bool | None = None
    bad_words: tuple[str, ...] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    thinking_budget: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is sampled and when to stop, with every field decided.

    `max_tokens=None` means until the context is full. `temperature=0` is greedy.
    `top_k=0`, `top_p=1` and `min_p=0` switch that filter off. The penalties follow
    OpenAI (presence, frequency: over generated tokens) and CTRL (repetition: over all).
    `logit_bias` is added to the logits of these token ids. `logprobs=n` asks for the chosen
    token's log probability and those of the n likeliest tokens, `prompt_logprobs=n` for the same
    of the prompt's tokens. `stop_token_ids` end the answer as its end-of-sequence token does.
    `includes_stop`: the stop string stays in the text. `skips_special_tokens`: their text is left
    out. `bad_words` are never generated, and nothing else than `allowed_token_ids`, if there are
    any. After `thinking_budget` tokens of reasoning the answer begins.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    ignore_eos: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    includes_stop: bool = False
    skips_special_tokens: bool = True
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    thinking_budget: int | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature <= GREEDY_BELOW

    @classmethod
    def resolve(cls, *layers: SamplingFields) -> Self:
        """The first layer that sets a field decides it."""
        chosen = {}
        for name in (f.name for f in fields(SamplingFields)):
            values = (getattr(layer, name) for layer in layers)
            value = next((v for v in values if v is not None), None)
            if value is not None:
                chosen[name] = value
        return cls(**chosen)

    def under(self, rules: AnswerRules) -> Self:
        """These parameters with the model's rules added.

        The model's stop strings act as its end-of-sequence token does: `ignore_eos` ignores both.
        """
        if rules == AnswerRules():
            return self
        suppressed = tuple((token_id, -math.inf) for token_id in rules.suppressed)
        return replace(
            self,
            stop=self.stop if self.ignore_eos else (*self.stop, *rules.stop),
            logit_bias=(*self.logit_bias, *suppressed),
        )


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """What a model requires of every answer, beyond what requests can set.

    Attributes:
        stop: strings that end an answer.
        suppressed: token ids that are never generated.
        banned: sequences of several token ids that are never generated.
        ignored: what its generation_config.json asks for that this server does not do.
    """

    stop: tuple[str, ...] = ()
    suppressed: tuple[int, ...] = ()
    banned: tuple[tuple[int, ...], ...] = ()
    ignored: tuple[str, ...] = ()
