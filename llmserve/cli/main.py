"""The commands by name. Each is imported when it is called, and imports what it needs when it
runs: importing pydantic takes a tenth of a second, torch several seconds."""

from __future__ import annotations

import importlib
import sys
import time
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from llmserve.cli.exit_codes import SERVER_FAILED, WRONG_USE
from llmserve.cli.help import CONTEXT, PlainCommand
from llmserve.errors import LLMServeError, ServerUnreachable
from llmserve.printable import printable

STARTED_AT: Final = time.monotonic()
"""When the program began. The process may be older, if another program executed this one."""

COMMANDS: Final = {
    "serve": ("local", "Serve models over HTTP and WebSocket."),
    "chat": (
        "operating",
        "Talk to a model on a running server; Ctrl-C stops an answer, Ctrl-D leaves.",
    ),
    "generate": ("local", "Load a model and continue one prompt on stdout, token by token."),
    "models": ("local", "List the models under models/, and their adapters."),
    "pull": ("local", "Download a model from the hub into models/."),
    "config": ("local", "Show the effective settings and where each comes from."),
    "keys": ("keys", "API keys: create, list, revoke. A running server notices within a second."),
    "health": ("health", "Ask a running server whether it is healthy."),
    "ps": (
        "operating",
        "Show the workers of a running server and their models; exit code 1 if one is silent.",
    ),
    "load": (
        "operating",
        "Load a model, or an adapter as BASE:ADAPTER, on every worker of a running server.",
    ),
    "unload": ("operating", "Unload a model, or an adapter, on every worker of a running server."),
    "reload": ("operating", "Load a model and its model.toml again, without a gap."),
    "warm": ("operating", "Run prompts and pin prefixes on every worker of a running server."),
    "upstreams": (
        "upstreams",
        "The servers behind models that are served elsewhere: list, drain, undrain.",
    ),
    "doctor": (
        "operating",
        "Measure what goes wrong with token streams on the way to a server; say what to change.",
    ),
    "bench": (
        "bench",
        "Measure a server: time to first token, between tokens, throughput, goodput.",
    ),
    "batch": (
        "batch",
        "Batches of a running server: submit a file of requests, watch it, fetch the answers.",
    ),
    "fields": (
        "fields",
        "List every field of OpenAI's and vLLM's references, and what becomes of it here.",
    ),
}
"""The module and the help text of each, in the order of an operator's first days."""


class Commands(TyperGroup):
    """Replaces a command's placeholder with the command when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _command(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every command with its whole summary."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    shows_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.")
    ] = False,
) -> None:
    """A self-hosted token server for HuggingFace models."""
    if shows_version:
        print(f"llmserve {version('llmserve')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for _name, (_, _summary) in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)


def main() -> None:
    """The entry point: our own errors are one line and an exit code."""
    try:
        app()
    except LLMServeError as error:
        print(f"llmserve: {printable(error.message)}", file=sys.stderr)
        sys.exit(SERVER_FAILED if isinstance(error, ServerUnreachable) else WRONG_USE)


def _command(name: str) -> Any:
    found = getattr(importlib.import_module(f"llmserve.cli.{COMMANDS[name][0]}"), name)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=PlainCommand, context_settings=CONTEXT)(found)
    return typer.main.get_command(alone)
