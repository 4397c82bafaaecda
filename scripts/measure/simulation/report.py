"""The table of figures, and the same for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from measure.simulation.tally import Figures

HEAD = (
    "boxes", "requests/s a box", "routing", "sent", "refused", "TTFT p50", "p99",
    "ITL p50", "p99", "tokens/s", "cached", "max ÷ mean load",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One run. `rate`: the requests per second and box that it was asked for, of a log those that
    it has."""

    boxes: int
    rate: float
    routing: str
    figures: Figures


def as_markdown(rows: Sequence[Row]) -> str:
    """Times are in milliseconds."""
    lines = [_line(HEAD), _line(["---:" if number != 2 else "---" for number in range(len(HEAD))])]
    lines.extend(_line(_cells(row)) for row in rows)
    return "\n".join(lines)


def as_json(row: Row) -> dict[str, object]:
    """In seconds; what was not measured is null."""
    figures = {
        name: None if value == float("inf") else value
        for name, value in asdict(row.figures).items()
    }
    return {"boxes": row.boxes, "rate": row.rate, "routing": row.routing, **figures}


def _cells(row: Row) -> list[str]:
    figures = row.figures
    refused = ", ".join(f"{count:,} {code}" for code, count in figures.refused.items())
    return [
        f"{row.boxes}", f"{row.rate:g}", row.routing, f"{figures.requests:,}", refused or "-",
        *map(_ms, (figures.ttft_p50, figures.ttft_p99, figures.itl_p50, figures.itl_p99)),
        f"{figures.tokens_per_second:,.0f}", f"{figures.hit_share:.1%}", f"{figures.imbalance:.2f}",
    ]  # fmt: skip


def _ms(seconds: float) -> str:
    if seconds == float("inf"):
        return "-"
    return f"{1e3 * seconds:,.1f}" if seconds < 0.1 else f"{1e3 * seconds:,.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
