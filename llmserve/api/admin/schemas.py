"""What the admin routes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmserve.domain import AdapterSource
from llmserve.errors import ConfigurationError
from llmserve.operations.command import Command, Kind
from llmserve.registry.adapter_table import checked_adapter_name
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


class LoadBody(CommandBody):
    """POST /admin/load. `BASE:ADAPTER` is an adapter, which may be anywhere."""

    source: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None,
        description="Folder or hub id of an adapter; absent: the one in its base's `adapters`.",
    )
    revision: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Branch, tag or commit, if it is from the hub."
    )
    aliases: list[ModelName] = Field([], max_length=16, description="Further names of the adapter.")

    @model_validator(mode="after")
    def _of_an_adapter(self) -> LoadBody:
        if self.source is None and (self.revision is not None or self.aliases):
            raise ValueError("revision and aliases need a source, and there is none")
        if self.source is not None:
            checked_adapter_name(self._adapter_name())
        return self

    def _adapter_name(self) -> str:
        base, colon, adapter = (self.model or "").rpartition(":")
        if not (base and colon):
            raise ValueError("source is for an adapter; write model as BASE:ADAPTER")
        return adapter

    def command(self, kind: Kind) -> Command:
        """As the operations take it."""
        if self.source is None:
            return Command(kind, self.model)
        name, aliases = self._adapter_name(), tuple(self.aliases)
        adapter = AdapterSource(name, self.source, self.revision, aliases)
        return Command(kind, self.model, adapter=adapter)


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
