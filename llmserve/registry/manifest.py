"""`model.toml`: an operator's settings for one model. Only read here; nothing is loaded."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from llmserve.domain import EngineKind, ModelSpec, Prompt, SamplingFields
from llmserve.domain.conversation import of_system
from llmserve.engines.weights.checkpoint import GGUF_FILE, GGUF_SUFFIX
from llmserve.engines.weights.purpose import purposes_of
from llmserve.errors import ConfigurationError
from llmserve.registry.adapter_table import HUB_ID, AdapterTable, Name, adapters_of
from llmserve.registry.encoding_table import GENERATION_ONLY, EncodingTable
from llmserve.registry.output_table import STRICT, FieldTable, OutputTable, SyntaxTable
from llmserve.registry.remote_table import HERE_ONLY, RemoteTable, checked_upstreams, is_grpc
from llmserve.settings import Device, DType, ModelEngineName, Quantize

MANIFEST: Final = "model.toml"

ELSEWHERE: Final = "remote"
"""Device and type of a model that is not here: neither is to be found out."""


class _Strict(BaseModel):
    model_config = STRICT


class SamplingTable(_Strict):
    """`[sampling]`: defaults for requests."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = None
    skip_special_tokens: bool | None = None
    bad_words: list[Annotated[str, Field(min_length=1)]] | None = None
    thinking_token_budget: int | None = Field(None, ge=0)

    def fields(self) -> SamplingFields:
        """The table as `SamplingFields`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self
        }
        return SamplingFields(
            skips_special_tokens=values.pop("skip_special_tokens"),
            thinking_budget=values.pop("thinking_token_budget"),
            **values,
        )


class WarmupTable(_Strict):
    """`[warmup]`: prompts that run after the model is loaded and before it is ready.

    The KV cache of prefixes and of system prompts is kept for requests that begin with them. A
    prefix is the beginning of a raw prompt; a system prompt is the beginning of a conversation, to
    which the chat template is applied.
    """

    prompts: list[Annotated[str, Field(min_length=1)]] = []
    prefixes: list[Annotated[str, Field(min_length=1)]] = []
    system_prompts: list[Annotated[str, Field(min_length=1)]] = []

    def all_prefixes(self) -> tuple[Prompt, ...]:
        """The prefixes, and the system prompts as beginnings of conversations."""
        return (*self.prefixes, *(of_system(text) for text in self.system_prompts))


class Manifest(_Strict):
    """The whole file; every key may be left out."""

    path: str | None = None
    hub_id: Annotated[str, Field(pattern=rf"^{HUB_ID}$")] | None = None
    upstream: Annotated[list[str], BeforeValidator(checked_upstreams)] | None = None
    revision: str | None = None
    gguf_file: Annotated[str, Field(pattern=rf"^{GGUF_FILE}$")] | None = None
    aliases: list[Name] = []
    dtype: DType = "auto"
    dequantize: bool | None = None
    quantize: Quantize | None = None
    device: Device = "auto"
    engine: ModelEngineName = "auto"
    max_context: int | None = Field(None, ge=1)
    trust_remote_code: bool | None = None
    chat_template: str | None = None
    encoding: EncodingTable | None = None
    output: OutputTable = OutputTable()
    sampling: SamplingTable = SamplingTable()
    warmup: WarmupTable = WarmupTable()
    remote: RemoteTable = RemoteTable()
    adapters: list[AdapterTable] = []

    @model_validator(mode="after")
    def _one_source(self) -> Manifest:
        if self.path is not None and self.hub_id is not None:
            raise ValueError("path and hub_id exclude each other; keep one")
        if self.revision is not None and self.hub_id is None:
            raise ValueError("revision needs a hub_id, and there is none")
        return self

    @model_validator(mode="after")
    def _encodes_or_generates(self) -> Manifest:
        if self.encoding is not None and self.engine in ("batching", "threaded"):
            raise ValueError("[encoding] and an engine that generates exclude each other: keep one")
        if self.encoding is not None or self.engine == "encoding":
            self.check_encodes()
        return self

    def check_encodes(self) -> None:
        """
        Raises:
            ValueError: a key means nothing for a model that encodes.
        """
        for key in GENERATION_ONLY:
            if key in self.model_fields_set:
                raise ValueError(f"{key} is for models that generate, and this one encodes")
        if self.warmup.all_prefixes():
            raise ValueError(
                "the prefixes and system_prompts of [warmup] are for models that generate, and "
                "this one encodes"
            )

    @model_validator(mode="after")
    def _here_or_elsewhere(self) -> Manifest:
        if self.upstream is None:
            if "remote" in self.model_fields_set:
                raise ValueError("[remote] needs an upstream, and there is none")
            return self
        for key in HERE_ONLY:
            if key in self.model_fields_set:
                raise ValueError(f"upstream and {key} exclude each other: keep one")
        if self.warmup.all_prefixes():
            raise ValueError(
                "upstream and the prefixes and system_prompts of [warmup] exclude each other: keep "
                "one, and pin prefixes on the upstreams"
            )
        if self.remote.health_path is not None and all(map(is_grpc, self.upstream)):
            raise ValueError("health_path is for upstreams over HTTP; gRPC has a health service")
        return self


def read_manifest(folder: Path, *, trust_remote_code: bool = False) -> ModelSpec:
    """The spec of the model in this folder; a folder without a manifest contains the weights.

    `trust_remote_code` is the default if the manifest does not set it.

    Raises:
        ConfigurationError: the manifest cannot be read or has a bad key; names both.
    """
    file = folder / MANIFEST
    manifest = _parse(file) if file.exists() else Manifest()
    has_hub = manifest.hub_id is not None
    trust = manifest.trust_remote_code
    if manifest.upstream is not None:
        return _remote(manifest, folder, manifest.upstream)
    path, gguf_file = (folder / (manifest.path or ".")).resolve(), manifest.gguf_file
    if path.suffix == GGUF_SUFFIX:
        path, gguf_file = path.parent, path.name
    spec = ModelSpec(
        name=_name(folder),
        path=None if has_hub else path,
        hub_id=manifest.hub_id,
        revision=manifest.revision,
        aliases=tuple(manifest.aliases),
        dtype=manifest.dtype,
        device=manifest.device,
        engine=EngineKind(manifest.engine),
        max_context=manifest.max_context,
        trust_remote_code=trust_remote_code if trust is None else trust,
        chat_template=_template(manifest.chat_template, file),
        output_syntax=manifest.output.text(),
        sampling=manifest.sampling.fields(),
        warmup_prompts=tuple(manifest.warmup.prompts),
        warmup_prefixes=manifest.warmup.all_prefixes(),
        encoding=None if manifest.encoding is None else manifest.encoding.spec(),
        adapters=adapters_of(folder, manifest.adapters),
        gguf_file=gguf_file,
        dequantize=manifest.dequantize,
        quantize=manifest.quantize,
    )
    if purposes_of(spec):
        try:
            manifest.check_encodes()
        except ValueError as error:
            raise ConfigurationError(f"{file}: {error}") from error
    return spec


def _remote(manifest: Manifest, folder: Path, urls: list[str]) -> ModelSpec:
    name = _name(folder)
    return ModelSpec(
        name=name,
        aliases=tuple(manifest.aliases),
        dtype=ELSEWHERE,
        device=ELSEWHERE,
        engine=EngineKind.REMOTE,
        max_context=manifest.max_context,
        sampling=manifest.sampling.fields(),
        warmup_prompts=tuple(manifest.warmup.prompts),
        remote=manifest.remote.spec(urls, name, folder),
    )


def _name(folder: Path) -> str:
    """A link's own name: the operator may change what it points to."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100  # `absolute` keeps a `..`


def _parse(file: Path) -> Manifest:
    try:
        return Manifest.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        problems = "; ".join(_problem(p) for p in error.errors(include_url=False))
        raise ConfigurationError(f"{file}: {problems}") from error


def _problem(problem: Any) -> str:
    loc = [str(part) for part in problem["loc"]]
    if loc[:2] == ["output", "syntax"]:
        del loc[2:3]  # pydantic's word for which of the two forms it is
    key = ".".join(loc)
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}" if key else str(problem["msg"])
    place = tuple(part for part in loc[:-1] if not part.isdigit())
    table = _TABLES.get(place, FieldTable)
    near = difflib.get_close_matches(loc[-1], table.model_fields, n=1)
    hint = (
        f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(table.model_fields)}"
    )
    return f"unknown key {key!r}{hint}"


_TABLES: Final[dict[tuple[str, ...], type[BaseModel]]] = {
    (): Manifest,
    ("sampling",): SamplingTable,
    ("warmup",): WarmupTable,
    ("encoding",): EncodingTable,
    ("output",): OutputTable,
    ("output", "syntax"): SyntaxTable,
    ("remote",): RemoteTable,
    ("adapters",): AdapterTable,
}
"""By their place in the file; the tables of `output.syntax.fields` have names of their own."""


def _template(template: str | None, file: Path) -> str | None:
    """The template itself, or the content of the file that it names."""
    if template is None or "{" in template:
        return template
    try:
        return (file.parent / template).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: chat_template names the file {template!r}, which cannot be read: {error}"
        ) from error
