"""`model.toml`: what an operator says about one model. Reading only; nothing is loaded."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llmserve.domain import EngineKind, Message, ModelSpec, Prompt, SamplingFields
from llmserve.errors import ConfigurationError
from llmserve.settings import Device, DType, EngineName

MANIFEST: Final = "model.toml"

HUB_ID: Final = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
"""`org/name`, or `name` alone; neither part can be a way out of a folder."""

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SamplingTable(_Strict):
    """`[sampling]`: what holds where a request is silent."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None

    def fields(self) -> SamplingFields:
        """In the house's words."""
        values = self.model_dump(exclude={"stop"})
        return SamplingFields(**values, stop=None if self.stop is None else tuple(self.stop))


class WarmupTable(_Strict):
    """`[warmup]`: prompts that run once the model is loaded, before it is ready.

    The KV cache of prefixes and of system prompts is kept for requests that begin with them.
    A prefix is text as a raw prompt has it; for conversations it would need the chat template's
    opening, which a system prompt is given.
    """

    prompts: list[Annotated[str, Field(min_length=1)]] = []
    prefixes: list[Annotated[str, Field(min_length=1)]] = []
    system_prompts: list[Annotated[str, Field(min_length=1)]] = []

    def all_prefixes(self) -> tuple[Prompt, ...]:
        """Texts, and system prompts as the beginning of a conversation."""
        return (*self.prefixes, *((Message("system", text),) for text in self.system_prompts))


class Manifest(_Strict):
    """The whole file; every key may be left out."""

    path: str | None = None
    hub_id: Annotated[str, Field(pattern=rf"^{HUB_ID}$")] | None = None
    revision: str | None = None
    aliases: list[Name] = []
    dtype: DType = "auto"
    device: Device = "auto"
    engine: EngineName = "auto"
    max_context: int | None = Field(None, ge=1)
    trust_remote_code: bool | None = None
    chat_template: str | None = None
    sampling: SamplingTable = SamplingTable()
    warmup: WarmupTable = WarmupTable()

    @model_validator(mode="after")
    def _one_source(self) -> Manifest:
        if self.path is not None and self.hub_id is not None:
            raise ValueError("path and hub_id exclude each other; keep one")
        if self.revision is not None and self.hub_id is None:
            raise ValueError("revision belongs to a hub_id, and there is none")
        return self


def read_manifest(folder: Path, *, trust_remote_code: bool = False) -> ModelSpec:
    """The spec of the model in this folder; a folder without a manifest holds its weights.

    `trust_remote_code` is what holds where the manifest is silent.

    Raises:
        ConfigurationError: the manifest cannot be read or has a bad key; names both.
    """
    file = folder / MANIFEST
    manifest = _parse(file) if file.exists() else Manifest()
    has_hub = manifest.hub_id is not None
    trust = manifest.trust_remote_code
    return ModelSpec(
        # Of a link its own: what it points to is the operator's to change.
        name=Path(os.path.abspath(folder)).name,  # noqa: PTH100  # `absolute` keeps a `..`
        path=None if has_hub else (folder / (manifest.path or ".")).resolve(),
        hub_id=manifest.hub_id,
        revision=manifest.revision,
        aliases=tuple(manifest.aliases),
        dtype=manifest.dtype,
        device=manifest.device,
        engine=EngineKind(manifest.engine),
        max_context=manifest.max_context,
        trust_remote_code=trust_remote_code if trust is None else trust,
        chat_template=_template(manifest.chat_template, file),
        sampling=manifest.sampling.fields(),
        warmup_prompts=tuple(manifest.warmup.prompts),
        warmup_prefixes=manifest.warmup.all_prefixes(),
    )


def _parse(file: Path) -> Manifest:
    try:
        return Manifest.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(p) for p in error.errors(include_url=False))
        raise ConfigurationError(f"{file}: {problems}") from error


def _problem(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}" if key else str(problem["msg"])
    tables: dict[str, type[BaseModel]] = {"sampling": SamplingTable, "warmup": WarmupTable}
    is_nested = len(problem["loc"]) > 1
    table = tables[str(problem["loc"][0])] if is_nested else Manifest
    near = difflib.get_close_matches(str(problem["loc"][-1]), table.model_fields, n=1)
    hint = (
        f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(table.model_fields)}"
    )
    return f"unknown key {key!r}{hint}"


def _template(template: str | None, file: Path) -> str | None:
    """The template itself, or the content of the file it names."""
    if template is None or "{" in template:
        return template
    try:
        return (file.parent / template).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: chat_template names the file {template!r}, which cannot be read: {error}"
        ) from error
