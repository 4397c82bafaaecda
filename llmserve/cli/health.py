"""`llmserve health`: for health checks of containers, and for scripts."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import SplitResult

import typer

from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.errors import ConfigurationError
from llmserve.printable import printable
from llmserve.server_url import server_url

STATUSES: Final = ("alive", "hung", "ready", "loading", "broken", "draining")
"""What `/health` and `/health/ready` may answer."""

MAX_BYTES: Final = 2**20
SHOWN_BYTES: Final = 80

StatusAndBody = tuple[int, bytes]


def health(
    url: Annotated[
        str | None,
        typer.Argument(help="A server. Default: from `address_file`, or from `host` and `port`."),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it is ready, not only whether it is alive.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for the answer.")] = 5.0,
    config: Annotated[
        Path | None, typer.Option(help="Settings file, instead of ./llmserve.toml.")
    ] = None,
) -> None:
    """Ask a running server whether it is healthy.

    Exit code 0: it is. 1: it is not, it does not answer, or its address is unknown.
    2: this command line is wrong.
    """
    path = "/health/ready" if ready else "/health"
    base = _given(url) if url is not None else _configured(config)
    where = base.geturl() + path
    try:
        status, body = _within(timeout, lambda: _ask(base, path, timeout))
    except TimeoutError:
        _fail(f"{where}: timed out, there was no whole answer within {timeout:g} s")
    except (OSError, ValueError, http.client.HTTPException) as error:
        _fail(f"{where}: {error or type(error).__name__}")
    report = _report(body)
    if report is None:
        start = body[:SHOWN_BYTES].decode(errors="replace")
        _fail(f"{where}: what answers is not llmserve: {status} {start}")
    # JSON escapes control characters, which a terminal would execute.
    print(f"{printable(where)}: {status} {json.dumps(report, separators=(',', ':'))}")
    raise typer.Exit(0 if status == http.HTTPStatus.OK else SERVER_FAILED)


def _given(url: str) -> SplitResult:
    try:
        return server_url(url)
    except ConfigurationError as error:
        raise typer.BadParameter(error.message, param_hint="URL") from error


def _configured(config: Path | None) -> SplitResult:
    """The URL of the server with these settings; if they do not say, the server is not healthy."""
    from llmserve.settings import load_settings
    from llmserve.workers.address_file import published_url, url_here

    try:
        settings = load_settings(config_file=config).settings
        file = settings.address_file
        if file is not None and (published := published_url(file)) is not None:
            return _of(published, f"address_file {file}")
        if settings.port == 0:
            _fail("the server has taken any free port; give its URL, or let it write "
                  "`address_file`")  # fmt: skip
        return _of(url_here(settings.host, settings.port), "`host`")
    except ConfigurationError as error:
        _fail(error.message)


def _of(url: str, source: str) -> SplitResult:
    try:
        return server_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error.message}") from error


def _within(seconds: float, ask: Callable[[], StatusAndBody]) -> StatusAndBody:
    """What `ask` returns or raises, with a deadline for all of it: a socket's timeout starts again
    with every byte, and a name lookup has none.

    Raises:
        TimeoutError: it takes longer; it is abandoned and does not keep this process alive.
    """
    answer: Future[StatusAndBody] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="health", daemon=True).start()
    return answer.result(seconds)


def _ask(base: SplitResult, path: str, timeout: float) -> StatusAndBody:
    """Status and body. Ignores the environment's proxy, which is not for one's own machine."""
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    connection = kind(base.hostname or "", base.port, timeout=timeout)
    try:
        connection.request("GET", base.path.rstrip("/") + path)
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES)
    finally:
        connection.close()


def _report(body: bytes) -> dict[str, Any] | None:
    """What our server answers; `None` if it is another server's answer."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("status") in STATUSES else None


def _fail(message: str) -> NoReturn:
    print(f"llmserve: {printable(message)}", file=sys.stderr)
    raise typer.Exit(SERVER_FAILED)
