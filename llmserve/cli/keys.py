"""`llmserve keys create | list | revoke`: the key file, from the command line."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from llmserve.cli.help import CONTEXT, PlainCommand
from llmserve.domain import Scope
from llmserve.errors import ConfigurationError

if TYPE_CHECKING:
    from llmserve.admission.key_file import KeyFile
    from llmserve.admission.key_record import KeyRecord, KeyState

keys = typer.Typer(
    name="keys",
    add_completion=False,
    help="API keys: create, list, revoke. A running server notices within a second.",
    no_args_is_help=True,
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DEFAULT_FILE: Final = Path("llmserve-keys.json")
PERIOD: Final = re.compile(r"(\d{1,6})([hdw])")
PERIODS: Final = {"h": "hours", "d": "days", "w": "weeks"}

File = Annotated[
    Path | None,
    typer.Option(
        "--file", help="The key file. Default: the setting `keys_file`, or ./llmserve-keys.json."
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file, instead of ./llmserve.toml.")
]


@keys.command(cls=PlainCommand, context_settings=CONTEXT)
def create(
    name: Annotated[str, typer.Argument(help="Who gets the key; shown in logs and metrics.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it gives access to; may be repeated. Default: generate."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this model or adapter, or all adapters of a model (BASE:*); may be "
            "repeated. Default: all."
        ),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers together.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Open requests at a time.")] = None,
    priority: Annotated[
        int, typer.Option(min=1, max=1000, help="4 gets four times the share that 1 gets.")
    ] = 1,
    background: Annotated[
        bool, typer.Option("--background", help="Its requests run only where others leave room.")
    ] = False,
    expires: Annotated[
        str | None, typer.Option(help="30d, 12h, 4w, or a date as in 2030-01-31 (UTC).")
    ] = None,
    file: File = None,
    config: Config = None,
) -> None:
    """Make a key. It is printed once, on stdout; the file keeps only its hash."""
    from llmserve.admission.credential import digest, new_credential

    now = datetime.now(UTC).replace(microsecond=0)
    fields = {
        "name": name,
        "scopes": tuple(dict.fromkeys(scope or (Scope.GENERATE,))),
        "models": tuple(dict.fromkeys(model)) if model else None,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
        "priority": priority,
        "background": background,
        "created_at": now,
        "expires_at": _end(expires, now) if expires is not None else None,
    }
    key_file = _key_file(file, config)
    with key_file.edit() as records:
        if any(record.name == name and record.revoked_at is None for record in records):
            raise ConfigurationError(
                f"{key_file.path} has a key named {name!r}; revoke it first, or take another name"
            )
        key_id, key = new_credential({record.id for record in records})
        record = _record(fields | {"id": key_id, "hash": digest(key).hex()})
        records.append(record)
    _note(f"key {key_id} for {name} is in {key_file.path}; this is the only time it is shown:")
    print(key, flush=True)


@keys.command("list", cls=PlainCommand, context_settings=CONTEXT)
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    file: File = None,
    config: Config = None,
) -> None:
    """Show every key and its state, but neither keys nor hashes."""
    records = _key_file(file, config).read()
    now = time.time()
    if as_json:
        shown = [r.model_dump(mode="json", exclude={"hash"}) | {"state": r.state(now)}
                 for r in records]  # fmt: skip
        print(json.dumps(shown, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ("id", "name", "scopes", "models", "limits", "priority", "expires", "state")
    table = Table(*columns, box=None)
    for record in records:
        table.add_row(*_cells(record, record.state(now)))
    # Wide enough not to wrap lines in a pipe.
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


@keys.command(cls=PlainCommand, context_settings=CONTEXT)
def revoke(
    id_or_name: Annotated[str, typer.Argument(metavar="ID_OR_NAME")],
    file: File = None,
    config: Config = None,
) -> None:
    """Revoke a key for good. It stays in the list."""
    key_file = _key_file(file, config)
    key_file.read()  # raises if there is no file, which `edit` would make
    with key_file.edit() as records:
        index = _find(records, id_or_name, key_file.path)
        now = datetime.now(UTC).replace(microsecond=0)
        record = records[index] = records[index].model_copy(update={"revoked_at": now})
    _note(f"key {record.id} for {record.name} is revoked")


def _key_file(file: Path | None, config: Path | None) -> KeyFile:
    from llmserve.admission.key_file import KeyFile
    from llmserve.settings import load_settings

    path = file or load_settings(config_file=config).settings.keys_file
    if path is None:
        path = DEFAULT_FILE
        _note(f"the key file is {path}, as neither --file nor the setting `keys_file` names one; "
              f"a server uses it with --keys-file {path}")  # fmt: skip
    return KeyFile(path)


def _end(expires: str, now: datetime) -> datetime:
    """The time that `30d` or a date stands for; a date without a time means midnight UTC."""
    try:
        if period := PERIOD.fullmatch(expires):
            end = now + timedelta(**{PERIODS[period[2]]: int(period[1])})
        else:
            moment = datetime.fromisoformat(expires)
            end = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"--expires {expires!r} is neither a period (12h, 30d, 4w) nor a date (2030-01-31)"
        ) from None
    if end <= now:
        raise ConfigurationError(f"--expires {expires} has passed already; choose a later time")
    return end


def _record(fields: dict[str, Any]) -> KeyRecord:
    from pydantic import ValidationError

    from llmserve.admission.key_record import KeyRecord

    try:
        return KeyRecord(**fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}"
            for p in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(problems) from None


def _find(records: list[KeyRecord], id_or_name: str, path: Path) -> int:
    """The index of the one key with this id or name that can be revoked."""
    meant = [n for n, r in enumerate(records) if id_or_name in (r.id, r.name)]
    if not meant:
        raise ConfigurationError(
            f"{path} has no key {id_or_name!r}; `llmserve keys list` shows its keys"
        )
    valid = [n for n in meant if records[n].revoked_at is None]
    if not valid:
        raise ConfigurationError(f"key {id_or_name!r} was revoked already")
    if len(valid) > 1:
        raise ConfigurationError(
            f"{id_or_name!r} is one key's id and another's name; use the other key's id"
        )
    return valid[0]


def _cells(record: KeyRecord, state: KeyState) -> list[str]:
    limits = (
        (record.requests_per_minute, "requests/min"),
        (record.tokens_per_minute, "tokens/min"),
        (record.concurrency, "open"),
    )
    return [
        record.id,
        record.name,
        ", ".join(record.scopes),
        ", ".join(record.models) if record.models is not None else "all",
        ", ".join(f"{most:,} {what}" for most, what in limits if most is not None) or "none",
        f"{record.priority}, background" if record.background else str(record.priority),
        record.expires_on or "never",
        state,
    ]


def _note(text: str) -> None:
    print(text, file=sys.stderr)
