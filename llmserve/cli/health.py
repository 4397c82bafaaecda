"""`llmserve health`: is a server well? For health checks of containers, and for scripts."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import SplitResult, urlsplit

import typer

from llmserve.errors import ConfigurationError
from llmserve.printable import printable

STATUSES: Final = ("alive", "hung", "ready", "loading", "broken", "draining")
"""Of `/health` and `/health/ready`."""

MAX_BYTES: Final = 2**20
SHOWN_BYTES: Final = 80

Answer = tuple[int, bytes]


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
    path = "/health/ready" if ready else "/health"
    try:
        base = _parsed(url) if url is not None else _configured(config)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="URL") from error
    except ConfigurationError as error:
        _fail(error.message)
    where = base.geturl().rstrip("/") + path
    try:
        status, body = _within(timeout, lambda: _ask(base, path, timeout))
    except TimeoutError:
        _fail(f"{where}: timed out, there was no whole answer within {timeout:g} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        _fail(f"{where}: {error or type(error).__name__}")
    told = _told(body)
    if told is None:
        start = body[:SHOWN_BYTES].decode(errors="replace")
        _fail(f"{where}: what answers is no llmserve: {status} {start}")
    # Escaped as JSON: a terminal gets no control characters.
    print(f"{printable(where)}: {status} {json.dumps(told, separators=(',', ':'))}")
    raise typer.Exit(0 if status == http.HTTPStatus.OK else 1)


def _parsed(url: str) -> SplitResult:
    """A URL that can be asked.

    Raises:
        ValueError: it is none; says why.
    """
    if any(c <= " " or c == "\x7f" for c in url):
        raise ValueError("has blanks or control characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("names no host")
    _ = parts.port  # raises where it is none
    try:
        parts.hostname.encode("idna")
        parts.path.encode("ascii")
    except UnicodeError as error:
        raise ValueError(f"its host or path cannot be sent: {error}") from error
    return parts


def _configured(config: Path | None) -> SplitResult:
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
            try:
                return _parsed(published)
            except ValueError as error:
                raise ConfigurationError(
                    f"address_file {settings.address_file} has no server's URL: {error}"
                ) from error
    if settings.port == 0:
        raise ConfigurationError("the server has taken any free port; give its URL, or let it "
                                 "write `address_file`")  # fmt: skip
    try:
        return _parsed(url_here(settings.host, settings.port))
    except ValueError as error:
        raise ConfigurationError(f"`host` {settings.host!r} cannot be asked: {error}") from error


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What it returns or raises, by a deadline for all of it: that of a socket begins anew with
    every byte, and looking a name up has none.

    Raises:
        TimeoutError: it takes longer; it is left alone, and does not keep this process.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="health", daemon=True).start()
    return answer.result(seconds)


def _ask(base: SplitResult, path: str, timeout: float) -> Answer:
    """Status and body. Directly: a proxy of the environment is not for one's own machine."""
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    connection = kind(base.hostname or "", base.port, timeout=timeout)
    try:
        connection.request("GET", base.path.rstrip("/") + path)
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES)
    finally:
        connection.close()


def _told(body: bytes) -> dict[str, Any] | None:
    """What a server of ours says; `None` where it is another one's."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("status") in STATUSES else None


def _fail(message: str) -> NoReturn:
    print(f"llmserve: {printable(message)}", file=sys.stderr)
    raise typer.Exit(1)
