"""Where values come from: defaults < llmserve.toml < LLMSERVE_* < flags.

No other module reads settings from the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from llmserve.errors import ConfigurationError
from llmserve.settings.service_links import service_links
from llmserve.settings.settings import ENV_PREFIX, Settings

CONFIG_VARIABLE: Final = "LLMSERVE_CONFIG"
DEFAULT_FILE: Final = "llmserve.toml"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each field the source of its value. `again` reads all sources anew."""

    settings: Settings
    origins: Mapping[str, str]
    again: Callable[[], LoadedSettings]


def load_settings(
    flags: Mapping[str, object] | None = None, *, config_file: Path | None = None
) -> LoadedSettings:
    """Merge all sources. `flags` holds only what was given on the command line.

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
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origins)) from None
    return LoadedSettings(settings, origins, lambda: load_settings(flags, config_file=config_file))


def to_environment(settings: Settings) -> dict[str, str]:
    """Variables from which a worker process loads exactly these settings, secrets included."""
    return {
        ENV_PREFIX + name.upper(): _as_text(value)
        for name in Settings.model_fields
        if (value := getattr(settings, name)) is not None
    } | {CONFIG_VARIABLE: os.devnull}


def _sources(
    flags: Mapping[str, object], config_file: Path | None
) -> Iterable[tuple[Mapping[str, object], Any]]:
    asked_for = config_file or os.environ.get(CONFIG_VARIABLE)
    path = Path(asked_for or DEFAULT_FILE)
    yield _read_file(path, bool(asked_for)), lambda _: str(path)
    environment = {
        key.removeprefix(ENV_PREFIX): value
        for key, value in os.environ.items()
        if key.startswith(ENV_PREFIX) and key != CONFIG_VARIABLE and value
    }
    strangers = service_links(environment)
    settings = {k.lower(): v for k, v in environment.items() if k not in strangers}
    yield settings, lambda name: f"environment {ENV_PREFIX}{name.upper()}"
    yield flags, lambda name: f"flag --{name.replace('_', '-')}"


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
    hint = f"did you mean {near[0]!r}?" if near else "`llmserve config` lists the settings"
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
