"""One run of `llmserve bench`, with a bar while it lasts, and its report."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmserve.bench.answer import Timed

if TYPE_CHECKING:
    from llmserve.bench.embedding_report import EmbeddingReport
    from llmserve.bench.load import Amount, Collected, Load
    from llmserve.bench.report import Report

A = TypeVar("A", bound=Timed)


def measured(
    amount: Amount, prepared: Callable[[Callable[[A], None]], Awaitable[Load[A]]]
) -> Collected[A]:
    """Prepare a load and run it; Ctrl-C ends it early."""
    import uvloop
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from llmserve.bench.load import Collected

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("requests", total=amount.requests)
        load: Load[A] | None = None

        async def run() -> None:
            nonlocal load
            load = await prepared(lambda answer: bar.advance(task))
            await load.run()

        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(run())
    return load.collected if load is not None else Collected()


def told(report: Report | EmbeddingReport, json_file: Path | None) -> None:
    """Print a report as tables and write it as JSON; `-` prints only JSON."""
    from rich.console import Console

    if json_file is not None and str(json_file) == "-":
        print(json.dumps(report.as_json(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in report.tables():
        console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
