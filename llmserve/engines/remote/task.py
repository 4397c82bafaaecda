"""A task of a model that is served elsewhere: the request itself, whose prompt becomes tokens
there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmserve.domain import GenerationRequest
from llmserve.engines.remote.prefix_memory import Digest
from llmserve.engines.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTask(Task):
    """Attributes:
    request: as the transport brought it.
    digest: of the prompt, by which the upstream is chosen that has it cached.
    headers: that go on with it: its id and its trace.
    estimated_tokens: of the prompt.
    written: the request by the languages of the upstreams, as far as it was needed.
    """

    request: GenerationRequest
    digest: Digest
    headers: Mapping[str, str]
    estimated_tokens: int
    written: dict[Hashable, Any] = field(default_factory=dict, compare=False)

    @property
    def prompt_tokens(self) -> int:
        """As estimated from the text's length."""
        return self.estimated_tokens
