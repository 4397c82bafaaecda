"""A request for a generation."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserve.domain.conversation import Prompt
from llmserve.domain.sampling import SamplingFields


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue, whatever transport brought it.

    Attributes:
        id: the request id in logs and response bodies.
        model: a served name or alias; `None` is the default model.
        defaults: the transport's, for fields that neither the request nor the model sets.
        timeout_seconds: from now until the answer must end, waiting included.
        cache_salt: cached prefixes are shared only among requests with the same salt.
    """

    id: str
    prompt: Prompt
    model: str | None = None
    sampling: SamplingFields = field(default_factory=SamplingFields)
    defaults: SamplingFields = field(default_factory=SamplingFields)
    timeout_seconds: float | None = None
    cache_salt: str = ""
