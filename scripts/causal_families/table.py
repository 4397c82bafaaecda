"""The table of families in the engines' page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import transformers

from causal_families.outcome import Outcome

PAGE: Final = Path(__file__).parents[2] / "llmserve" / "engines" / "README.md"
BEGIN: Final = "<!-- scripts/families writes from here -->"
END: Final = "<!-- to here -->"
_UNSAID: Final = (
    "auto: batching is not for it: ",
    "auto: the model supports it; ",
    "transformers' code, attention in torch (the weights are not bfloat16)",
)


def write_table(page: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Put these in the page's table, beside the other families that are there.

    Raises:
        ValueError: the page has no place for a table.
    """
    before, inside, after = _parts(page)
    rows = _rows(inside) | {name: _row(outcome) for name, outcome in outcomes.items()}
    lines = [
        "",
        f"transformers {transformers.__version__}, {len(rows)} names: {_counts(rows.values())}.",
        "",
        "| family | engine | equality | launches | why |",
        "| --- | --- | --- | --- | --- |",
        *("| " + " | ".join(rows[name]) + " |" for name in sorted(rows)),
        "",
    ]
    page.write_text(before + "\n".join(lines) + after, encoding="utf-8")


def read_table(page: Path) -> dict[str, Outcome]:
    """What the page says of each family."""
    rows = _rows(_parts(page)[1])
    return {
        family.strip("`"): Outcome(family.strip("`"), engine, why, equality, _number(launches))
        for family, engine, equality, launches, why in rows.values()
    }


def reason(why: str) -> str:
    """What the table says of why; empty where a model is served as most are."""
    for unsaid in _UNSAID:
        why = why.removeprefix(unsaid)
    return why.replace("|", "/")


def _parts(page: Path) -> tuple[str, str, str]:
    """The page up to the table, the table, and the rest."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    return before + begin, inside, end + after


def _rows(text: str) -> dict[str, list[str]]:
    """The cells of each row by the family in it."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0].strip("`"): row for row in rows}


def _row(outcome: Outcome) -> list[str]:
    launches = "" if outcome.launches is None else f"{outcome.launches:.0f}"
    name = f"`{outcome.family}`"
    return [name, outcome.engine, outcome.equality, launches, reason(outcome.why)]


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _counts(rows: Collection[list[str]]) -> str:
    counts = Counter(row[1] for row in rows)
    exact = Counter(row[1] for row in rows if row[2] == "exact")
    return ", ".join(f"{counts[n]} {n} ({exact[n]} exact)" for n in sorted(counts))
