"""A flag for every setting, made from `Settings` itself, so that none is forgotten."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from llmserve.settings import LoadedSettings, Settings, load_settings

SECRETS: Final = frozenset({"api_keys", "admin_keys", "hf_token"})
"""Not offered as flags: a command line is visible to everyone on the machine."""

Command = Callable[..., None]


def with_settings(*, without: frozenset[str] = frozenset()) -> Callable[[Command], Command]:
    """Give a command `--config` and a flag for each setting, and pass it the `LoadedSettings`.

    `without` names settings that the command takes in its own way, as a keyword argument of the
    same name; its value counts as a flag unless it is `None` or empty.
    """

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        names = [n for n in Settings.model_fields if n not in SECRETS | without]

        @functools.wraps(command)
        def run(config: Path | None = None, **arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in names}
            given |= {name: arguments[name] for name in without if name in arguments}
            flags = {name: value for name, value in given.items() if value not in (None, [], ())}
            command(load_settings(flags, config_file=config), **arguments)

        parameters = [*own, _config_parameter(), *(_parameter(name) for name in names)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _config_parameter() -> inspect.Parameter:
    option = typer.Option("--config", help="Settings file, instead of ./llmserve.toml.")
    return _keyword("config", Annotated[Path | None, option])


def _parameter(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind: Any = bool if field.annotation is bool else str
    flag = "--" + name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    option = typer.Option(
        *names, help=field.description, rich_help_panel="Settings", show_default=_default(name)
    )
    return _keyword(name, Annotated[kind | None, option])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _default(name: str) -> str | bool:
    default = Settings.model_fields[name].default
    if default is None or isinstance(default, SecretStr) or default == ():
        return False
    return ", ".join(default) if isinstance(default, tuple) else str(default)


__all__ = ["LoadedSettings", "with_settings"]
