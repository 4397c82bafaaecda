"""What the admin routes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmserve.errors import ConfigurationError
from llmserve.operations.command import Command, Kind
from llmserve.server_url import server_url

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
WarmText = Annotated[str, Field(min_length=1, max_length=1_000_000)]


class CommandBody(BaseModel):
    """A command for a model."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: ModelName | None = Field(None, description="A model; the default one if absent.")
    stream: bool = Field(False, description="Tell the progress as server-sent events.")

    def command(self, kind: Kind) -> Command:
        """As the operations take it."""
        return Command(kind, self.model)


class UnloadBody(CommandBody):
    """POST /admin/unload."""

    timeout: float | None = Field(
        None, ge=0, le=86_400, description="Seconds to wait for open streams."
    )

    def command(self, kind: Kind) -> Command:
        """As the operations take it."""
        return Command(kind, self.model, timeout_seconds=self.timeout)


class UpstreamBody(CommandBody):
    """POST /admin/drain and /admin/undrain."""

    upstream: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="The URL of one of the model's upstreams, with or without `/v1`."
    )

    @field_validator("upstream")
    @classmethod
    def _base_url(cls, url: str) -> str:
        try:
            return server_url(url).geturl()
        except ConfigurationError as error:
            raise ValueError(error.message) from None

    def command(self, kind: Kind) -> Command:
        """As the operations take it."""
        return Command(kind, self.model, upstream=self.upstream)


class WarmBody(CommandBody):
    """POST /admin/warm."""

    prompts: list[WarmText] = Field([], max_length=64, description="Run for a few tokens each.")
    prefixes: list[WarmText] = Field(
        [],
        max_length=16,
        description="Kept in the prefix cache: prompts that begin with one start fast.",
    )
    system_prompts: list[WarmText] = Field(
        [], max_length=16, description="The same, for conversations with this system message."
    )

    def command(self, kind: Kind) -> Command:
        """As the operations take it."""
        return Command(
            kind,
            self.model,
            prompts=tuple(self.prompts),
            prefixes=tuple(self.prefixes),
            system_prompts=tuple(self.system_prompts),
        )
