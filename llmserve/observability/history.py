"""What dead workers counted: their files, one per worker and kind, become one.

The truth changes in a single rename. `history.json` has the sums and the names of the files that
they are of; a file named there counts no more, so that a crash at any point loses nothing and
counts nothing twice. Callers hold the directory's lock.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from prometheus_client.mmap_dict import MmapedDict

NAME: Final = "history.json"

Sums = Mapping[str, Mapping[str, float]]
"""Of a kind (counter, histogram, summary): prometheus_client's key, and the value."""


@dataclass(frozen=True, slots=True)
class History:
    """Sums of `absorbed`, files that may still lie around, and of others that are gone."""

    sums: Sums
    absorbed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The one that is there; before the first it is empty."""
        try:
            found = json.loads((directory / NAME).read_text())
        except FileNotFoundError:
            return cls({})
        return cls(found["sums"], frozenset(found["absorbed"]))

    def write(self, directory: Path) -> None:
        """Replace the one that is there, at once.

        Raises:
            OSError: there is no room; the old one stays.
        """
        fresh = directory / (NAME + ".tmp")
        try:
            fresh.write_text(json.dumps({"sums": self.sums, "absorbed": sorted(self.absorbed)}))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        fresh.replace(directory / NAME)


def absorb(directory: Path, dead: Sequence[Path]) -> None:
    """Add these files of dead workers to the history, and remove them."""
    history = History.read(directory)
    values = gather(dead, history)
    sums = {kind: {key: _ceiling(v) for key, v in found.items()} for kind, found in values.items()}
    leftovers = {name for name in history.absorbed if (directory / name).exists()}
    absorbed = leftovers | {file.name for file in dead}
    History(sums, frozenset(absorbed)).write(directory)
    for name in absorbed:
        (directory / name).unlink(missing_ok=True)


def gather(files: Iterable[Path], history: History) -> dict[str, dict[str, list[float]]]:
    """All values of each key, by kind."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, sums in history.sums.items():
        for key, value in sums.items():
            found[kind][key].append(value)
    for file in files:
        kind = kind_of(file.name)
        with contextlib.suppress(FileNotFoundError):  # a cleaner was faster
            for key, value in _values(file):
                found[kind][key].append(value)
    return found


def kind_of(name: str) -> str:
    """Of a file: `counter`, `histogram`, `summary`, `gauge_livesum` or `gauge_livemax`."""
    return name.rpartition("_")[0]


def _values(file: Path) -> Iterator[tuple[str, float]]:
    if file.stat().st_size == 0:
        return  # its worker is about to fill it, or was killed just before
    for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        yield key, value


def _ceiling(values: Sequence[float]) -> float:
    """The sum, rounded up: a total that became smaller by a rounding is a restart to Prometheus."""
    total = math.fsum(values)
    if math.isfinite(total) and math.fsum([*values, -total]) > 0:
        return math.nextafter(total, math.inf)
    return total
