"""`llmserve health`: is a server well? For health checks of containers, and for scripts."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from llmserve.errors import ConfigurationError


def health(
    url: Annotated[
        str | None,
        typer.Argument(help="A server. Default: that of `address_file`, or of `host` and `port`."),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether requests may come, not only for life.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for the answer.")] = 5.0,
    config: Annotated[
        Path | None, typer.Option(help="Settings file, instead of ./llmserve.toml.")
    ] = None,
) -> None:
    """Ask a running server whether it is well.

    Exit code 0: it is. 1: it is not, it does not answer, or nobody knows where it is.
    2: this command line is wrong.
    """
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise typer.BadParameter("must begin with http:// or https://", param_hint="URL")
    path = "/health/ready" if ready else "/health"
    try:
        base = (url or _configured(config)).rstrip("/")
        status, body = _ask(base, path, timeout)
    except ConfigurationError as error:
        _fail(error.message)
    except (OSError, http.client.HTTPException) as error:
        _fail(f"{base}{path}: {error or type(error).__name__}")
    print(f"{base}{path}: {status} {body}")
    raise typer.Exit(0 if status == http.HTTPStatus.OK else 1)


def _configured(config: Path | None) -> str:
    """Where the server of these settings is.

    Raises:
        ConfigurationError: the settings are wrong, or do not tell.
    """
    from llmserve.settings import load_settings
    from llmserve.workers.address import published_url, url_here

    settings = load_settings(config_file=config).settings
    if settings.address_file is not None:
        published = published_url(settings.address_file)
        if published is not None:
            return published
    if settings.port == 0:
        raise ConfigurationError("the server has taken any free port; give its URL, or let it "
                                 "write `address_file`")  # fmt: skip
    return url_here(settings.host, settings.port)


def _ask(base: str, path: str, timeout: float) -> tuple[int, str]:
    """Status and body. Directly: a proxy of the environment is not for one's own machine."""
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", parts.path + path)
        response = connection.getresponse()
        return response.status, response.read(4096).decode(errors="replace")
    finally:
        connection.close()


def _fail(message: str) -> None:
    print(f"llmserve: {message}", file=sys.stderr)
    raise typer.Exit(1)
