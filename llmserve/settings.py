"""Every knob, in one place: defaults < llmserve.toml < LLMSERVE_* < flags.

The only reader of the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from llmserve.errors import ConfigurationError

ENV_PREFIX: Final = "LLMSERVE_"
CONFIG_VARIABLE: Final = "LLMSERVE_CONFIG"
DEFAULT_FILE: Final = "llmserve.toml"


def _listed(value: Any) -> Any:
    """A list from the environment or a flag: JSON, or words between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _listed_secrets(value: Any) -> Any:
    """Like `_listed`, but nothing between two commas is a mistake: it must not mean no keys."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",")]
    return _listed(value)


def _not_blank(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().strip():
        raise ValueError("is blank")
    return secret


def _known_device(device: str) -> str:
    kind, _, index = device.partition(":")
    if device in {"auto", "cpu", "cuda"} or (kind == "cuda" and index.isdecimal()):
        return device
    raise ValueError("must be auto, cpu, cuda or cuda:N")


Device = Annotated[str, AfterValidator(_known_device)]
DType = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "threaded"]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Secret = Annotated[SecretStr, AfterValidator(_not_blank)]
Secrets = Annotated[tuple[Secret, ...], NoDecode, BeforeValidator(_listed_secrets)]
Seconds = Annotated[float, AllowInfNan(False)]


class Settings(BaseSettings):
    """What an operator can decide. Field descriptions are the settings table of the README."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` for everyone.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field("", description="Path prefix that a proxy in front removes.")
    workers: int = Field(
        1, ge=1, le=256, description="Uvicorn processes; each loads every model for itself."
    )
    reload: bool = Field(
        False, description="Restart when the code changes: for development, with one worker."
    )
    models: Words = Field(
        ("demo",),
        description="Models to serve: names under `models_dir`, paths, or hub ids. "
        "The first is the default.",
    )
    models_dir: Path = Field(Path("models"), description="One folder per model.")
    device: Device = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    dtype: DType = Field("auto", description="Of the weights; `auto` is what the checkpoint has.")
    engine: EngineName = Field("auto", description="Which engine makes the tokens.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with a model. Only for models you trust."
    )
    max_running: int = Field(
        4, ge=1, le=1024, description="Requests that generate at once, per model and worker."
    )
    max_waiting: int = Field(
        256, ge=0, le=100_000, description="Requests that wait for a slot; more are told 429."
    )
    wait_timeout_seconds: Seconds = Field(
        60.0, gt=0, description="How long a request may wait for a slot."
    )
    request_timeout_seconds: Seconds = Field(
        600.0, gt=0, description="Default and upper bound of a request's own timeout."
    )
    drain_timeout_seconds: Seconds = Field(
        30.0, ge=0, description="On SIGTERM: time for running streams to finish."
    )
    keepalive_seconds: Seconds = Field(
        15.0, gt=0, description="A comment goes out on a stream that is silent for so long."
    )
    hang_timeout_seconds: Seconds = Field(
        120.0, gt=0, description="A running request without a token for so long is a hung engine."
    )
    torch_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads per running request; default: cores ÷ `max_running`.",
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=1024, description="Largest request body and WebSocket frame."
    )
    max_prompts_per_request: int = Field(
        64, ge=1, le=4096, description="Prompts × n of one HTTP request."
    )
    websocket_max_prompts: int = Field(
        16, ge=1, le=4096, description="Prompts at once on one WebSocket."
    )
    gzip_min_bytes: int = Field(1024, ge=0, description="JSON bodies from here on are compressed.")
    cors_origins: Words = Field((), description="Browser origins that may call; `*` is any.")
    api_keys: Secrets = Field(
        (), description="When set, requests need `Authorization: Bearer KEY` with one of them."
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Hub to download from.")
    hf_token: SecretStr | None = Field(None, description="Token for gated models of the hub.")
    log_format: Literal["human", "json"] = Field("human", description="Log lines for whom.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least important lines to log."
    )
    metrics_dir: Path | None = Field(
        None, description="Where workers share their metrics; `llmserve serve` makes one."
    )

    @model_validator(mode="after")
    def _reload_is_for_one(self) -> Self:
        if self.reload and self.workers > 1:
            raise ValueError("reload is for development with one worker; set workers to 1")
        return self

    @model_validator(mode="after")
    def _something_to_serve(self) -> Self:
        if not self.models:
            raise ValueError("models is empty; name at least one")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` merges the sources itself, to know where each value came from."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each field the place that decided it."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    flags: Mapping[str, object] | None = None, *, config_file: Path | None = None
) -> LoadedSettings:
    """Merge all sources. `flags` holds only what the command line said.

    Raises:
        ConfigurationError: an unknown key, a bad value or an unreadable file; says which.
    """
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for source, label in _sources(flags or {}, config_file):
        for name, value in source.items():
            _check_known(name, label(name))
            values[name], origins[name] = value, label(name)
    try:
        return LoadedSettings(Settings(**values), origins)  # type: ignore[arg-type]  # validated here
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origins)) from None


def to_environment(settings: Settings) -> dict[str, str]:
    """Variables from which a worker process loads exactly these settings, secrets included."""
    return {
        ENV_PREFIX + name.upper(): _as_text(value)
        for name in Settings.model_fields
        if (value := getattr(settings, name)) is not None
    } | {CONFIG_VARIABLE: os.devnull}


def shown(value: object) -> str:
    """A setting's value for people: secrets are only counted."""
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, tuple):
        if any(isinstance(part, SecretStr) for part in value):
            return f"({len(value)} set, not shown)"
        return ", ".join(value) or "(none)"
    return "(not set)" if value is None else str(value)


def settings_table() -> str:
    """The settings as a Markdown table, for the README."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = shown(field.default)
        default = default if default.startswith("(") or not default else f"`{default}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _sources(
    flags: Mapping[str, object], config_file: Path | None
) -> Iterable[tuple[Mapping[str, object], Any]]:
    asked_for = config_file or os.environ.get(CONFIG_VARIABLE)
    path = Path(asked_for or DEFAULT_FILE)
    yield _read_file(path, bool(asked_for)), lambda _: str(path)
    environment = {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in os.environ.items()
        if key.startswith(ENV_PREFIX)
        and key != CONFIG_VARIABLE
        and value
        and not _is_from_kubernetes(key, value)
    }
    yield environment, lambda name: f"environment {ENV_PREFIX}{name.upper()}"
    yield flags, lambda name: f"flag --{name.replace('_', '-')}"


def _is_from_kubernetes(key: str, value: str) -> bool:
    """Kubernetes tells every pod of a Service named llmserve, in variables of our prefix."""
    name = key.removeprefix(ENV_PREFIX)
    return name.startswith(("SERVICE_", "PORT_")) or (name == "PORT" and "://" in value)


def _read_file(path: Path, is_asked_for: bool) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if is_asked_for:
            raise ConfigurationError(f"settings file {path} does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"settings file {path} cannot be read: {error}") from error


def _check_known(name: str, origin: str) -> None:
    if name in Settings.model_fields:
        return
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "`llmserve config` lists what there is"
    raise ConfigurationError(f"unknown setting {name!r} in {origin}; {hint}")


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    problems = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        where = f"{name} ({origins[name]}): " if name in origins else ""
        problems.append(where + problem["msg"].removeprefix("Value error, "))
    return "; ".join(problems)


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return json.dumps([_as_text(part) for part in value])
    return str(value)
