"""The commands by name. Each is imported when it is called, and imports what it needs when it
runs: importing pydantic takes a tenth of a second, torch several seconds."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, Final

import typer
from typer.core import TyperGroup

from llmserve.cli.exit_codes import SERVER_FAILED, WRONG_USE
from llmserve.errors import LLMServeError, ServerUnreachable
from llmserve.printable import printable

STARTED_AT: Final = time.monotonic()
"""When the program began. The process may be older, if another program executed this one."""

COMMANDS: Final = {
    "serve": ("local", "Serve models over HTTP and WebSocket."),
    "generate": ("local", "Load a model and continue one prompt on stdout, token by token."),
    "chat": (
        "operating",
        "Talk to a model on a running server; Ctrl-C stops an answer, Ctrl-D leaves.",
    ),
    "models": ("local", "List the models under models/."),
    "config": ("local", "Show the effective settings and where each comes from."),
    "fields": (
        "fields",
        "List every field of OpenAI's and vLLM's references, and what becomes of it here.",
    ),
    "pull": ("local", "Download a model from the hub into models/."),
    "health": ("health", "Ask a running server whether it is healthy."),
    "ps": (
        "operating",
        "Show the workers of a running server and their models; exit code 1 if one is silent.",
    ),
    "load": ("operating", "Load a model on every worker of a running server."),
    "unload": ("operating", "Unload a model on every worker of a running server."),
    "reload": ("operating", "Load a model and its model.toml again, without a gap."),
    "warm": ("operating", "Run prompts and pin prefixes on every worker of a running server."),
    "doctor": (
        "operating",
        "Measure what goes wrong with token streams on the way to a server; say what to change.",
    ),
    "bench": (
        "bench",
        "Measure a server: time to first token, between tokens, throughput, goodput.",
    ),
    "keys": ("keys", "API keys: create, list, revoke. A running server notices within a second."),
}
"""The module and the help text of each."""


class Commands(TyperGroup):
    """Replaces a command's placeholder with the command when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _command(args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    help="A self-hosted token server for HuggingFace models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
