"""What the admin routes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from llmserve.operations.command import Command, Kind

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
