"""What is known of families so far: a file with a line of JSON for each, which grows as they are
tried."""

from __future__ import annotations

import json
from pathlib import Path

from causal_families.outcome import Outcome


class Ledger:
    """The last line of a family counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outcomes: dict[str, Outcome] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._note(Outcome.parse(line))

    def add(self, outcome: Outcome) -> None:
        """Written before it returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome.values) + "\n")
        self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.family] = outcome
