"""`llmserve upstreams [list | drain | undrain]`: the servers behind a model that is served
elsewhere."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.cli.help import CONTEXT, PlainCommand
from llmserve.cli.operating import AdminKey, Url
from llmserve.server_url import DEFAULT_URL

upstreams = typer.Typer(
    name="upstreams",
    add_completion=False,
    help="The servers behind models that are served elsewhere: list, drain, undrain.",
    no_args_is_help=True,
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str | None, typer.Option("--model", "-m", help="A served model. Default: the default model.")
]
Upstream = Annotated[str, typer.Argument(metavar="UPSTREAM", help="Its URL.")]


@upstreams.command("list", cls=PlainCommand, context_settings=CONTEXT)
def show(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this one's. Default: all.")
    ] = None,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = None,
) -> None:
    """Show each worker's upstreams: their state, what they answer now, how fast they begin."""
    from llmserve.cli.admin_client import AdminClient

    if not AdminClient(url, admin_key).show_upstreams(model):
        sys.exit(SERVER_FAILED)


@upstreams.command(cls=PlainCommand, context_settings=CONTEXT)
def drain(
    upstream: Upstream, model: Model = None, url: Url = DEFAULT_URL, admin_key: AdminKey = None
) -> None:
    """Send no more requests to an upstream; those that it has are finished."""
    _operate("drain", upstream, model, url, admin_key)


@upstreams.command(cls=PlainCommand, context_settings=CONTEXT)
def undrain(
    upstream: Upstream, model: Model = None, url: Url = DEFAULT_URL, admin_key: AdminKey = None
) -> None:
    """Send requests to an upstream again."""
    _operate("undrain", upstream, model, url, admin_key)


def _operate(kind: str, upstream: str, model: str | None, url: str, admin_key: str | None) -> None:
    from llmserve.cli.admin_client import AdminClient

    if not AdminClient(url, admin_key).command(kind, {"model": model, "upstream": upstream}):
        sys.exit(SERVER_FAILED)
