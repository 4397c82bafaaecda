"""The words of the house: requests, events, models. Frozen data.

Knows nothing of HTTP, torch or threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from llmserve.errors import LLMServeError

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    name: str | None = None


Prompt = str | tuple[int, ...] | tuple[Message, ...]
"""Raw text, token ids, or a conversation for the chat template."""


@dataclass(frozen=True, slots=True)
class SamplingFields:
    """Sampling as somebody asked for it: a request, a manifest, a default. `None` is silence."""

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


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen and when to stop; every question answered.

    `max_tokens=None` means until the context is full. `temperature=0` is greedy.
    `top_k=0`, `top_p=1` and `min_p=0` switch that filter off. The penalties follow
    OpenAI (presence, frequency: over generated tokens) and CTRL (repetition: over all).
    `logit_bias` is added to the logits of these token ids. `logprobs=n` asks for the chosen
    token's log probability and those of the n likeliest tokens.
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

    @classmethod
    def resolve(cls, *layers: SamplingFields) -> Self:
        """The first layer that says something about a field decides it."""
        chosen = {}
        for name in (f.name for f in fields(SamplingFields)):
            values = (getattr(layer, name) for layer in layers)
            value = next((v for v in values if v is not None), None)
            if value is not None:
                chosen[name] = value
        return cls(**chosen)

    def under(self, rules: AnswerRules) -> Self:
        """With what the model asks of every answer; its stop strings end one as its end token
        does, so `ignore_eos` goes on after both."""
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
    """What a model asks of all its answers and no request can say.

    Attributes:
        stop: strings that end an answer.
        suppressed: token ids that are never generated.
        ignored: what its generation_config.json asks for and is not done here.
    """

    stop: tuple[str, ...] = ()
    suppressed: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()


class Scope(StrEnum):
    """What a key opens."""

    GENERATE = "generate"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What a key may use; `None` is no limit. They hold over all workers of a box."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key, or `anonymous` where no keys are configured.

    Attributes:
        name: shown in logs, metrics and the accounting log; never the key itself.
        models: names that the caller may use; `None` is all.
        priority: the caller's weight where callers compete: 4 gets four times what 1 gets.
    """

    name: str = "anonymous"
    scopes: frozenset[Scope] = frozenset({Scope.GENERATE})
    models: frozenset[str] | None = None
    limits: CallerLimits = CallerLimits()
    priority: int = 1

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether a model that goes by these names is for this caller."""
        return self.models is None or not self.models.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue, whatever transport brought it.

    Attributes:
        id: the request id that logs and bodies carry.
        model: a served name or alias; `None` is the default model.
        defaults: what the transport assumes where neither request nor model speak.
        timeout_seconds: from now until the answer must end, waiting included.
        cache_salt: cached prefixes are shared among requests of the same salt only.
    """

    id: str
    prompt: Prompt
    model: str | None = None
    sampling: SamplingFields = SamplingFields()
    defaults: SamplingFields = SamplingFields()
    timeout_seconds: float | None = None
    cache_salt: str = ""


class FinishReason(StrEnum):
    """Why a generation ended well."""

    STOP = "stop"
    LENGTH = "length"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one generation; the end-of-sequence token counts as generated."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Queued:
    """Still waiting: `position` callers are ahead, about `eta_seconds` to go (if known)."""

    position: int
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class Started:
    """A slot was taken and prefill begins."""

    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of probabilities by the model itself, before any sampling parameter.

    `top` holds the likeliest tokens and theirs, best first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text and the tokens behind it; a slow reader gets fewer, larger deltas.

    `logprobs` has one entry for each token where the request asked for them.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Terminal: the generation ended well. `stop_string` is the one that matched, if any."""

    reason: FinishReason
    usage: Usage
    stop_string: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: the generation ended in an error."""

    error: LLMServeError
    usage: Usage


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Terminal: the caller asked to stop, or left."""

    usage: Usage


Terminal = Finish | Failed | Cancelled
Event = Queued | Started | Delta | Terminal


class EngineKind(StrEnum):
    """Which engine makes the tokens."""

    AUTO = "auto"
    BATCHING = "batching"
    THREADED = "threaded"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What to load and how: a manifest (`model.toml`) or a bare folder, resolved.

    Exactly one of `path` (weights on disk) and `hub_id` is set. `argument` is what an operator
    wrote to mean this model: by it the catalog finds it again. `parse_special_tokens` lets what is
    written in messages become special tokens. With `require_gpu`, `auto` never means the CPU.
    """

    name: str
    path: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    aliases: tuple[str, ...] = ()
    dtype: str = "auto"
    device: str = "auto"
    require_gpu: bool = False
    engine: EngineKind = EngineKind.AUTO
    max_context: int | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    parse_special_tokens: bool = False
    sampling: SamplingFields = SamplingFields()
    warmup_prompts: tuple[str, ...] = ()
    warmup_prefixes: tuple[Prompt, ...] = ()
    argument: str | None = None


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a model is; `fraction` of the current stage where it is known."""

    stage: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What warming did: seconds for each prompt, and for each prefix the tokens that are kept,
    or 0 and why not."""

    prompt_seconds: tuple[float, ...] = ()
    prefix_tokens: tuple[int, ...] = ()
    prefix_problems: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One engine at one moment.

    Attributes:
        seconds_since_step: age of the quietest running request's last sign of life, `None`
            when nothing runs.
        cache_usage: share of the KV cache in use, 0 to 1.
        pinned_bytes: memory of prefixes whose KV cache is kept, where it is not of the pool.
        waiting: started jobs that have no place in a step yet.
        blocks_used: of `blocks_total` in the paged cache; both 0 where there is none.
        preemptions: since the start, requests that had to give their blocks back.
    """

    running: int = 0
    seconds_since_step: float | None = None
    cache_usage: float = 0.0
    pinned_bytes: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine turned out to be, for the log and `/v1/models`. `warnings` tell what is not as
    an operator would expect, though it serves; `step_bytes` is what the largest step takes of a
    GPU's memory, beside weights and cache, while it is computed."""

    kind: EngineKind
    why: str
    device: str
    dtype: str
    max_context: int
    parameters: int
    weight_bytes: int
    sampling: SamplingFields = field(default_factory=SamplingFields)
    cache_bytes: int = 0
    step_bytes: int = 0
    rules: AnswerRules = field(default_factory=AnswerRules)
    warnings: tuple[str, ...] = ()
