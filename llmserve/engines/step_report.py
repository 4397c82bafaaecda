"""What an engine reports of each of its steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepParts:
    """Where the seconds of a step went.

    Attributes:
        plan: choosing what to compute.
        prepare: laying it out as tensors; of the attempts that succeeded, as is the next.
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
    """One forward pass and what belongs to it.

    Attributes:
        seconds: the whole step.
        tokens: computed, prompt and answer.
        sampled: answer tokens made.
        parts: of the seconds, where the engine knows them.
    """

    seconds: float
    tokens: int
    sampled: int
    parts: StepParts | None = None
