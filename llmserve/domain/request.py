"""What is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserve.domain.conversation import Prompt
from llmserve.domain.sampling import SamplingFields


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
    sampling: SamplingFields = field(default_factory=SamplingFields)
    defaults: SamplingFields = field(default_factory=SamplingFields)
    timeout_seconds: float | None = None
    cache_salt: str = ""
