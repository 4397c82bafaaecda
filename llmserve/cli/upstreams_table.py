"""The upstreams of models, as a table for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from llmserve.printable import printable


def upstreams_table(workers: list[dict[str, Any]], model: str | None) -> Table:
    """Of this model, or of all; from what workers report of themselves."""
    table = Table(
        "model", "upstream", "state", "worker", "server", "running", "first token", "why", box=None
    )
    for worker in workers:
        for served in worker["models"]:
            if model is None or model in (served["name"], *served["aliases"]):
                for upstream in served.get("upstreams", ()):
                    cells = _cells(upstream)
                    cells[2:2] = [str(worker["worker"])]
                    table.add_row(*(Text(printable(cell)) for cell in (served["name"], *cells)))
    return table


def _cells(upstream: dict[str, Any]) -> list[str]:
    seconds = upstream["first_token_seconds"]
    return [
        upstream["url"], upstream["state"], upstream["server"] or "?", str(upstream["running"]),
        "-" if seconds is None else f"{seconds:.2f} s", upstream["problem"] or "",
    ]  # fmt: skip
