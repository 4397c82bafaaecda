"""Models and engines: what to load, how far loading is, what was loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from llmserve.domain.adapter import AdapterSpec
from llmserve.domain.conversation import Prompt
from llmserve.domain.encoder import EncodingInfo, EncodingSpec
from llmserve.domain.quantization import Quantization
from llmserve.domain.remote import RemoteSpec, UpstreamInfo
from llmserve.domain.sampling import AnswerRules, SamplingFields


class EngineKind(StrEnum):
    """Which engine serves a model."""

    AUTO = "auto"
    BATCHING = "batching"
    THREADED = "threaded"
    REMOTE = "remote"
    ENCODING = "encoding"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What to load and how: a manifest (`model.toml`) or a bare folder, resolved.

    Exactly one of `path` (weights on disk), `hub_id` and `remote` is set. `argument` is what the
    operator wrote for this model; the catalog finds the model again by it. `parse_special_tokens`
    lets text in messages become special tokens. With `require_gpu`, `auto` never means the CPU.
    `output_syntax` says how answers are read: the name of a syntax or a `response_template` as JSON
    text; `None` finds it out. `encoding` is for a model that encodes. `gguf_file` is the file of
    the weights, where the folder has others. `dequantize` expands packed weights into `dtype` when
    they are loaded; `quantize` (int8, int4 or fp8) packs those that are not packed, and "none"
    packs nothing whatever the server's default is.
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
    output_syntax: str | None = None
    sampling: SamplingFields = field(default_factory=SamplingFields)
    warmup_prompts: tuple[str, ...] = ()
    warmup_prefixes: tuple[Prompt, ...] = ()
    argument: str | None = None
    remote: RemoteSpec | None = None
    encoding: EncodingSpec | None = None
    adapters: tuple[AdapterSpec, ...] = ()
    gguf_file: str | None = None
    dequantize: bool | None = None
    quantize: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that requests may call it by."""
        return (self.name, *self.aliases)

    @property
    def packs_to(self) -> str | None:
        """What its weights are to be packed to when they are loaded."""
        return None if self.quantize == "none" else self.quantize

    @property
    def all_names(self) -> tuple[str, ...]:
        """Its names, and those of its adapters; a name that it has twice is there twice."""
        adapters = (name for one in self.adapters for name in one.served_names(self.names))
        return (*self.names, *adapters)


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far loading is; `fraction` is that of the current stage, where it is known."""

    stage: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What warming did: the seconds of each prompt, and for each prefix how many tokens stay
    cached, or 0 and the reason."""

    prompt_seconds: tuple[float, ...] = ()
    prefix_tokens: tuple[int, ...] = ()
    prefix_problems: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, seconds: Iterable[float], pins: Iterable[tuple[int, str | None]]) -> Self:
        """From the seconds of each prompt, and the tokens and problem of each prefix."""
        pins = tuple(pins)
        return cls(
            tuple(round(spent, 3) for spent in seconds),
            tuple(tokens for tokens, _ in pins),
            tuple(problem for _, problem in pins),
        )


@dataclass(frozen=True, slots=True)
class EngineStats:
    """One engine at one moment.

    Attributes:
        seconds_since_step: how long the running request that has been silent longest has made no
            progress; `None` when nothing runs.
        seconds_preparing: age of the oldest prompt that is being made into tokens, `None` when
            there is none.
        cache_usage: share of the KV cache in use, 0 to 1.
        pinned_bytes: memory of pinned prefixes that are kept outside the paged KV cache.
        waiting: started jobs that the scheduler has not admitted to a step yet.
        blocks_used: of `blocks_total` in the paged KV cache; both 0 where there is none.
        preemptions: since the start, requests whose blocks were taken from them.
        states_used: slots of running requests, of `states_total`, for recurrent states; both 0
            where the model has none.
        checkpoints: slots in which the state after a prefix is kept.
        checkpoint_hits: since the start, requests that began with such a state.
    """

    running: int = 0
    seconds_since_step: float | None = None
    seconds_preparing: float | None = None
    cache_usage: float = 0.0
    pinned_bytes: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    preemptions: int = 0
    states_used: int = 0
    states_total: int = 0
    checkpoints: int = 0
    checkpoint_hits: int = 0


@dataclass(frozen=True, slots=True)
class SyntaxInfo:
    """How a model's answers are read.

    Attributes:
        name: of its syntax of tool calls.
        is_own: whether the model was trained on it; otherwise prompts explain a generic one.
        has_reasoning: whether answers may begin with reasoning.
        why: for the operator.
    """

    name: str
    is_own: bool
    has_reasoning: bool
    why: str


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A loaded engine, as the log and `/v1/models` describe it.

    `max_context` is `None` where nobody says. `warnings` are for the operator: what works otherwise
    than expected; clients may read them. `step_bytes` is the GPU
    memory that the largest step needs while it is computed, besides weights and cache,
    `adapter_bytes` what the loaded adapters take. Of `cache_bytes` `state_bytes` are for recurrent
    states in `num_states` slots. `eos_ids`
    end an answer. `fingerprint` changes when model, weights or engine do. `syntax` is
    `None` where answers are plain text. `architecture` is the model's family, as its config
    has it. With `takes_conversations` it has a chat template; without `has_tokenizer` prompts are
    made into tokens elsewhere, by one of the `upstreams`. `encoding` is `None` where it generates,
    `quantization` where the weights never were quantised.
    """

    kind: EngineKind
    why: str
    device: str
    dtype: str
    max_context: int | None
    parameters: int
    weight_bytes: int
    sampling: SamplingFields = field(default_factory=SamplingFields)
    cache_bytes: int = 0
    state_bytes: int = 0
    num_states: int = 0
    step_bytes: int = 0
    adapter_bytes: int = 0
    rules: AnswerRules = field(default_factory=AnswerRules)
    eos_ids: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    fingerprint: str | None = None
    syntax: SyntaxInfo | None = None
    architecture: str = ""
    takes_conversations: bool = False
    has_tokenizer: bool = True
    upstreams: tuple[UpstreamInfo, ...] = ()
    encoding: EncodingInfo | None = None
    quantization: Quantization | None = None

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What requests may ask of it."""
        if self.encoding is not None:
            return self.encoding.capabilities
        chats = ("chat", "tools") if self.takes_conversations else ()
        thinks = self.syntax is not None and self.syntax.has_reasoning
        return ("completions", "structured_outputs", *chats, *(("reasoning",) if thinks else ()))
