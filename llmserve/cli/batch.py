"""`llmserve batch submit | status | fetch | cancel`: batches of a running server."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.cli.help import CONTEXT, PlainCommand
from llmserve.errors import ConfigurationError
from llmserve.printable import printable
from llmserve.server_url import DEFAULT_URL

if TYPE_CHECKING:
    from llmserve.cli.batch_client import Batch, BatchClient

batch = typer.Typer(
    name="batch",
    add_completion=False,
    help="Batches of a running server: submit a file of requests, watch it, fetch the answers.",
    no_args_is_help=True,
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Url = Annotated[str, typer.Option(help="The running server.")]
ApiKey = Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY", help="The server's key.")]
BatchId = Annotated[str, typer.Argument(metavar="ID", help="The batch.")]
Out = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where answers go; default: stdout.")
]


@batch.command(cls=PlainCommand, context_settings=CONTEXT)
def submit(
    file: Annotated[Path, typer.Argument(help="One request a line, as OpenAI's batches have it.")],
    endpoint: Annotated[
        str | None, typer.Option(help="The route; default: that of the first line.")
    ] = None,
    window: Annotated[str, typer.Option(help="How long it may take: 30m, 24h.")] = "24h",
    waits: Annotated[
        bool, typer.Option("--wait", help="Until it ends; exit code 1 if not all went well.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Upload a file and begin a batch. Its id is printed on stdout."""
    fields = {"endpoint": endpoint or _endpoint(file), "completion_window": window}
    with _client(url, api_key) as client:
        begun = client.submit(file, fields)
        print(printable(begun["id"]), flush=True)
        if waits:
            _report(client.wait(begun["id"]))


@batch.command(cls=PlainCommand, context_settings=CONTEXT)
def status(
    batch_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The batch; default: the latest ones.")
    ] = None,
    waits: Annotated[
        bool, typer.Option("--wait", help="Until it ends; exit code 1 if not all went well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show how far batches are."""
    with _client(url, api_key) as client:
        if batch_id is None:
            found = client.batches()
        else:
            found = [client.wait(batch_id) if waits else client.batch(batch_id)]
        lines = [_line(one) for one in found]
    if as_json:
        print(json.dumps(found if batch_id is None else found[0], indent=2))
    else:
        print("\n".join(lines))
    if batch_id is not None and waits and not _went_well(found[0]):
        sys.exit(SERVER_FAILED)


@batch.command(cls=PlainCommand, context_settings=CONTEXT)
def fetch(
    batch_id: BatchId,
    output: Out = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="The lines that failed, instead of the answers.")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Write the answers of a batch that has ended."""
    with _client(url, api_key) as client:
        found = client.batch(batch_id)
        file_id = found["error_file_id" if errors else "output_file_id"]
        if file_id is None:
            what = "lines that failed" if errors else "answers"
            raise ConfigurationError(f"{batch_id} is {found['status']} and has no {what}")
        if output is None:
            client.fetch(file_id, sys.stdout.buffer)
            return
        try:
            with output.open("wb") as out:
                client.fetch(file_id, out)
        except OSError as error:
            raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from None


@batch.command(cls=PlainCommand, context_settings=CONTEXT)
def cancel(batch_id: BatchId, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """End a batch; what it has answered can be fetched."""
    with _client(url, api_key) as client:
        print(_line(client.cancel(batch_id)))


@contextlib.contextmanager
def _client(url: str, api_key: str | None) -> Iterator[BatchClient]:
    """Within the context, what another server's answers cause is an error of ours."""
    from llmserve.cli.answers import translated
    from llmserve.cli.batch_client import BatchClient

    client = BatchClient(url, api_key)
    with translated(url):
        yield client


def _endpoint(file: Path) -> str:
    """What the first line asks for."""
    try:
        with file.open("rb") as opened:
            return str(json.loads(opened.readline())["url"])
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError):
        raise ConfigurationError(
            f"the first line of {file} is not a JSON object with a `url`; say --endpoint"
        ) from None


def _line(found: Batch) -> str:
    counts = found["request_counts"]
    done = counts["completed"] + counts["failed"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return printable(f"{found['id']}  {found['status']}  {done}/{counts['total']}{failed}")


def _report(found: Batch) -> None:
    """On stderr, as stdout has the id."""
    print(_line(found), file=sys.stderr)
    problems: list[dict[str, Any]] = (found["errors"] or {}).get("data", [])
    for problem in problems:
        where = "" if problem["line"] is None else f"line {problem['line']}: "
        print(printable(where + problem["message"]), file=sys.stderr)
    if not _went_well(found):
        sys.exit(SERVER_FAILED)


def _went_well(found: Batch) -> bool:
    return found["status"] == "completed" and not found["request_counts"]["failed"]
