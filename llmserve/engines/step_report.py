"""What an engine tells of each of its steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepParts:
    """Where the seconds of a batched step went, but for those of attempts that failed.

    Attributes:
        plan: choosing what to compute.
        prepare: laying it out as tensors.
        compute: the model and the sampler.
        commit: recording what was computed.
        publish: detokenizing, and handing events over to the event loop.
    """

    plan: float
    prepare: float
    compute: float
    commit: float
    publish: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """One forward pass and what belongs to it, for the metrics.

    Attributes:
        seconds: all of it.
        tokens: computed, prompt and answer.
        sampled: answer tokens made.
        parts: of `seconds`, from an engine with a step loop.
    """

    seconds: float
    tokens: int
    sampled: int
    parts: StepParts | None = None
