"""A client of a running server's /admin routes, for the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from llmserve.cli.answers import check, translated
from llmserve.cli.upstreams_table import upstreams_table
from llmserve.errors import ConfigurationError, ServerUnreachable
from llmserve.printable import printable
from llmserve.server_url import server_url

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 120.0
"""Much longer than the interval of the server's keep-alive comments."""


class AdminClient:
    """A running server's /admin routes, with the key for them."""

    def __init__(self, url: str, admin_key: str | None) -> None:
        self._url = server_url(url).geturl()
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {admin_key}"} if admin_key else {},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )
        self._console = Console(stderr=True, highlight=False)

    def show_status(self, *, as_json: bool) -> bool:
        """Print every worker and its models; returns whether every worker answered.

        Raises:
            ServerUnreachable: it does not answer, or not as llmserve does.
            ConfigurationError: the server refuses.
        """
        with translated(self._url):
            workers, problems = self._status()
            table = _table(workers)
        if as_json:
            print(json.dumps(workers, indent=2))
        else:
            _print(table)
        return _tell(problems)

    def show_upstreams(self, model: str | None) -> bool:
        """Print the upstreams of this model, or of all; returns whether every worker answered.

        Raises:
            ServerUnreachable: it does not answer, or not as llmserve does.
            ConfigurationError: the server refuses, or there is nothing to print.
        """
        with translated(self._url):
            workers, problems = self._status()
            table = upstreams_table(workers, model)
        if not table.row_count:
            whose = "no model" if model is None else f"{model!r} is not ready, or no model that"
            raise ConfigurationError(f"{whose} is served by upstreams; `llmserve ps` lists models")
        _print(table)
        return _tell(problems)

    def _status(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What workers report, and a line for each that does not."""
        with self._client as client:
            response = client.get(f"{self._url}/admin/status")
            check(response)
            status = response.json()
        silent = status.get("silent", ())
        problems = [f"worker {w['worker']}: {w['error']['message']}" for w in silent]
        return status["workers"], problems

    def command(self, kind: str, fields: Mapping[str, Any]) -> bool:
        """Carry out one command, showing its progress; returns whether every worker succeeded.

        Raises:
            ServerUnreachable: it does not answer, or not as llmserve does.
            ConfigurationError: the server refuses.
        """
        body = {k: v for k, v in fields.items() if v not in (None, [])} | {"stream": True}
        with translated(self._url), self._client as client, self._bars() as bars:
            tasks: dict[int, Any] = {}
            with client.stream("POST", f"{self._url}/admin/{kind}", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                check(response)
                report: dict[str, Any] | None = None
                for event, payload in _events(response.iter_lines()):
                    if event == "progress":
                        _show(bars, tasks, payload)
                    else:
                        report = payload
        if report is None:
            raise ServerUnreachable("the server ended the answer early; see its log")
        with translated(self._url):
            done, problems = _lines(kind, report)
        for lines, file in ((done, sys.stdout), (problems, sys.stderr)):
            for line in lines:
                print(printable(line), file=file)
        return bool(report["ok"]) and not _misses_prefixes(report)

    def _bars(self) -> Progress:
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(),
        )  # fmt: skip
        return Progress(*columns, console=self._console, transient=True)


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _tell(problems: list[str]) -> bool:
    """Whether there are none."""
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    return not problems


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    event = "message"
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, json.loads(line.removeprefix("data: "))


def _show(bars: Progress, tasks: dict[int, Any], payload: dict[str, Any]) -> None:
    worker = payload["worker"]
    if worker not in tasks:
        tasks[worker] = bars.add_task("", total=1.0)
    stage = payload.get("stage") or payload["status"]
    bars.update(
        tasks[worker],
        description=printable(f"worker {worker}: {payload['name']} {stage}"),
        completed=payload.get("fraction") or 0.0,
    )


def _lines(kind: str, report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Lines about what workers did, and about what went wrong."""
    done, problems = [], []
    for worker in report["workers"]:
        number = worker["worker"]
        if worker["ok"]:
            details = worker.get("report")
            done.append(f"worker {number}: {kind} {worker['model']} in {worker['seconds']} s"
                        + (f" {json.dumps(details)}" if details else ""))  # fmt: skip
            problems += [
                f"worker {number}: a prefix was not pinned: {problem}"
                for problem in (details or {}).get("prefix_problems", ())
                if problem
            ]
            if "warning" in worker:
                problems.append(f"worker {number}: {worker['warning']}")
        else:
            problems.append(f"worker {number}: {kind} failed: {worker['error']['message']}")
    return done, problems


def _misses_prefixes(report: dict[str, Any]) -> bool:
    reports = (worker.get("report") or {} for worker in report["workers"])
    return any(any(warmed.get("prefix_problems", ())) for warmed in reports)


def _table(workers: list[dict[str, Any]]) -> Table:
    table = Table(
        "worker", "pid", "state", "device", "up", "memory", "conns",
        "model", "status", "running", "waiting", "weights + cache", box=None,
    )  # fmt: skip
    for worker in workers:
        resident = f"{worker['rss_bytes'] / 2**20:,.0f} MiB" if worker["rss_bytes"] else "?"
        head = [
            str(worker["worker"]), str(worker["pid"]), worker["state"], worker["device"],
            f"{worker['uptime_seconds']:,.0f} s", resident, str(worker["connections"]),
        ]  # fmt: skip
        for model in worker["models"] or [None]:
            table.add_row(*(Text(printable(cell)) for cell in (*head, *_model_cells(model))))
            head = [""] * len(head)
            for adapter in (model or {}).get("adapters", ()):
                table.add_row(*(Text(printable(c)) for c in (*head, *_adapter_cells(adapter))))
    return table


def _model_cells(model: dict[str, Any] | None) -> list[str]:
    if model is None:
        return []
    memory = f"{model['memory_bytes'] / 2**20:,.0f} MiB" if model["memory_bytes"] else "-"
    return [
        model["name"], model.get("error") or model["status"],
        _with_background(model, "running"), _with_background(model, "waiting"), memory,
    ]  # fmt: skip


def _adapter_cells(adapter: dict[str, Any]) -> list[str]:
    """Below its base. What waits there, waits for all."""
    memory = f"{adapter['memory_bytes'] / 2**20:,.0f} MiB" if adapter["memory_bytes"] else "-"
    status = adapter.get("error") or adapter["status"]
    return [f"  {adapter['name']}", status, str(adapter["open"]), "", memory]


def _with_background(model: dict[str, Any], state: str) -> str:
    """`2 +16` where 16 more requests are background work."""
    background = model.get(f"background_{state}", 0)
    return f"{model[state]} +{background}" if background else str(model[state])
