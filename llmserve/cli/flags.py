"""A flag for every setting, made from `Settings` itself, so that none is forgotten."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic import SecretStr

from llmserve.settings import GROUPS, LoadedSettings, Settings, load_settings

SECRETS: Final = frozenset({"api_keys", "admin_keys", "hf_token", "queue_url", "webhook_secret"})
"""Not offered as flags: a command line is visible to everyone on the machine."""

Function = Callable[..., None]


def with_settings(
    *, only: frozenset[str] | None = None, without: frozenset[str] = frozenset()
) -> Callable[[Function], Function]:
    """Give a command `--config` and a flag for each setting, and pass it the `LoadedSettings`.

    `only` names those that matter to the command, if not all do; others have no flags.
    `without` names settings that the command takes in its own way, as a keyword argument of the
    same name; its value counts as a flag unless it is `None` or empty.
    """

    def decorate(command: Function) -> Function:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        names = {
            name: group
            for group, fields in GROUPS.items()
            for name in fields.model_fields
            if name not in SECRETS | without and (only is None or name in only)
        }

        @functools.wraps(command)
        def run(config: Path | None = None, **arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in names}
            given |= {name: arguments[name] for name in without if name in arguments}
            flags = {name: value for name, value in given.items() if value not in (None, [], ())}
            command(load_settings(flags, config_file=config), **arguments)

        parameters = [*own, _config_parameter(), *(_parameter(*each) for each in names.items())]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _config_parameter() -> inspect.Parameter:
    option = typer.Option("--config", help="Settings file, instead of ./llmserve.toml.")
    return _keyword("config", Annotated[Path | None, option])


def _parameter(name: str, group: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind: Any = bool if field.annotation is bool else str
    flag = "--" + name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    default = _default(name)
    option = typer.Option(
        *names,
        help=f"{field.description} [default: {default}]" if default else field.description,
        metavar=None if kind is bool else _metavar(name, field.annotation),
        rich_help_panel=f"{group} settings",
        show_default=False,
    )
    return _keyword(name, Annotated[kind | None, option])


def _metavar(name: str, annotation: Any) -> str:
    """The word that stands for the value: its choices, or its kind in capitals."""
    if get_origin(annotation) is Annotated:
        return _metavar(name, get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return _metavar(name, get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if get_origin(annotation) is tuple:
        return "WORD,..."
    if annotation is float and name.endswith("_seconds"):
        return "SECONDS"
    if annotation is int and name.endswith("_bytes"):
        return "BYTES"
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(annotation, "WORD")


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _default(name: str) -> str:
    """Empty where there is none."""
    default = Settings.model_fields[name].default
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ", ".join(default) if isinstance(default, tuple) else str(default)


__all__ = ["LoadedSettings", "with_settings"]
