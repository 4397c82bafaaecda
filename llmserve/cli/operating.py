"""Commands for a running server: `llmserve chat | ps | load | unload | reload | warm | doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.errors import ConfigurationError
from llmserve.server_url import DEFAULT_URL

Url = Annotated[str, typer.Option(help="The running server.")]
AdminKey = Annotated[
    str | None,
    typer.Option(
        envvar="LLMSERVE_ADMIN_KEY", help="Its admin key; may not be needed on its own machine."
    ),
]
ModelName = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="Default: the default model.")
]


def chat(
    url: Annotated[str, typer.Argument(help="A server.")] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A served model.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is greedy.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Per answer.")] = None,
    tools: Annotated[
        Path | None,
        typer.Option(help="A JSON list of tools, as a request has it; you say what they return."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="The server's key.")
    ] = None,
) -> None:
    """Talk to a model on a running server; Ctrl-C stops an answer, Ctrl-D leaves."""
    from llmserve.cli.conversation import Conversation

    fields = {
        "model": model,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "tools": None if tools is None else _listed(tools),
    }
    given = {k: v for k, v in fields.items() if v is not None}
    if not Conversation(url, given, system, api_key).run():
        sys.exit(SERVER_FAILED)


def _listed(path: Path) -> list[object]:
    try:
        tools = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--tools {path} cannot be read: {error}") from None
    if not isinstance(tools, list):
        raise ConfigurationError(f"--tools {path} is not a JSON list")
    return tools


def ps(
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the workers of a running server and their models; exit code 1 if one is silent."""
    from llmserve.cli.admin_client import AdminClient

    if not AdminClient(url, admin_key).show_status(as_json=as_json):
        sys.exit(SERVER_FAILED)


def load(
    model: ModelName = None,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Folder, on the server, or hub id of an adapter BASE:ADAPTER."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of an adapter from the hub.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of the adapter.")] = None,
) -> None:
    """Load a model, or an adapter as BASE:ADAPTER, on every worker of a running server."""
    fields = {"model": model, "source": source, "revision": revision, "aliases": alias or []}
    _operate("load", url, admin_key, fields)


def unload(
    model: ModelName = None,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait for open streams.")
    ] = None,
) -> None:
    """Unload a model, or an adapter, on every worker of a running server."""
    _operate("unload", url, admin_key, {"model": model, "timeout": timeout})


def reload(model: ModelName = None, url: Url = DEFAULT_URL, admin_key: AdminKey = None) -> None:
    """Load a model and its model.toml again, without a gap."""
    _operate("reload", url, admin_key, {"model": model})


def warm(
    model: ModelName = None,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Run it for a few tokens.")] = None,
    prefix: Annotated[list[str] | None, typer.Option(help="Keep its KV cache.")] = None,
    system: Annotated[
        list[str] | None, typer.Option(help="Keep the KV cache of this system message.")
    ] = None,
) -> None:
    """Run prompts and pin prefixes on every worker of a running server."""
    fields: dict[str, object] = {
        "model": model,
        "prompts": prompt or ["Hello"],
        "prefixes": prefix or [],
        "system_prompts": system or [],
    }
    _operate("warm", url, admin_key, fields)


def _operate(kind: str, url: str, admin_key: str | None, fields: Mapping[str, object]) -> None:
    from llmserve.cli.admin_client import AdminClient

    if not AdminClient(url, admin_key).command(kind, fields):
        sys.exit(SERVER_FAILED)


def doctor(
    url: Annotated[
        str, typer.Argument(help="A server, or the proxy in front of it.")
    ] = DEFAULT_URL,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="The server's key.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A served model.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Accept any certificate, but report its faults.")
    ] = False,
    idle_seconds: Annotated[
        float,
        typer.Option(min=0, max=3600, help="How long to keep a connection silent; 0 skips this."),
    ] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Measure what goes wrong with token streams on the way to a server; say what to change."""
    import asyncio

    from rich.console import Console

    from llmserve.doctor import Target, examine, render

    target = Target.parse(
        url, api_key=api_key, model=model, insecure=insecure, idle_seconds=idle_seconds
    )
    with Console(stderr=True).status("examining") as status:
        report = asyncio.run(examine(target, lambda name: status.update(f"examining {name}")))
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        render(report, Console(width=None if sys.stdout.isatty() else 200))
    raise typer.Exit(report.exit_code)
