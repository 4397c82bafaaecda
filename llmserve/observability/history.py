"""What dead workers counted: their files, one per worker and kind, are merged into one.

The state changes in a single rename. `history.json` has the sums and the names of the files that
went into them; a file named there no longer counts, so that a crash at any point loses nothing and
counts nothing twice. Callers hold the directory's lock.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from prometheus_client.mmap_dict import MmapedDict

from llmserve.observability.families import check_key, exact_sum
from llmserve.observability.series_file import USED

NAME: Final = "history.json"

Sums = Mapping[str, Mapping[str, float]]
"""Values by kind (counter, histogram, summary) and by prometheus_client's key."""


class CorruptSeries(ValueError):
    """A file in the directory is not what its name says."""

    def __init__(self, name: str, why: Exception) -> None:
        super().__init__(f"{name} is corrupt ({type(why).__name__}: {why})")


@dataclass(frozen=True, slots=True)
class History:
    """Sums of the merged files. Those in `absorbed` may still exist; others are already deleted."""

    sums: Sums
    absorbed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The directory's history; empty if there is none yet.

        Raises:
            OSError: it cannot be read.
            CorruptSeries: it is not a history.
        """
        try:
            found = json.loads((directory / NAME).read_text())
        except FileNotFoundError:
            return cls({})
        except (ValueError, RecursionError) as error:
            raise CorruptSeries(NAME, error) from error
        try:
            return cls(_sums(found["sums"]), _names(found["absorbed"]))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise CorruptSeries(NAME, error) from error

    def write(self, directory: Path) -> None:
        """Replace the directory's history atomically.

        Raises:
            OSError: the disk is full; the old one stays.
        """
        fresh = directory / (NAME + ".tmp")
        try:
            fresh.write_text(json.dumps({"sums": self.sums, "absorbed": sorted(self.absorbed)}))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        fresh.replace(directory / NAME)


@dataclass(frozen=True, slots=True)
class Gathered:
    """All values of each key, by kind; and for each file that could not be read, the reason."""

    values: dict[str, dict[str, list[float]]]
    unread: dict[str, Exception]


def absorb(directory: Path, dead: Sequence[Path]) -> None:
    """Add these files of dead workers to the history, and remove them.

    Files that cannot be read stay. A corrupt history is renamed and a new one begun.

    Raises:
        OSError: the history cannot be written; nothing has changed.
    """
    try:
        history = History.read(directory)
    except CorruptSeries:
        (directory / NAME).replace(directory / (NAME + ".corrupt"))
        history = History({})
    gathered = gather(dead, history)
    sums = {
        kind: {key: _ceiling(v) for key, v in found.items()}
        for kind, found in gathered.values.items()
    }
    leftovers = {name for name in history.absorbed if (directory / name).exists()}
    absorbed = leftovers | {file.name for file in dead if file.name not in gathered.unread}
    History(sums, frozenset(absorbed)).write(directory)
    for name in absorbed:
        (directory / name).unlink(missing_ok=True)


def gather(files: Iterable[Path], history: History) -> Gathered:
    """The values of the history and of these files; a partly corrupt file is left out."""
    unread: dict[str, Exception] = {}
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, sums in history.sums.items():
        for key, value in sums.items():
            found[kind][key].append(value)
    for file in files:
        kind = kind_of(file.name)
        try:
            values = list(_values(file))
        except FileNotFoundError:
            continue  # another process has removed it meanwhile
        except (OSError, CorruptSeries) as error:
            unread[file.name] = error
            continue
        for key, value in values:
            found[kind][key].append(value)
    return Gathered(found, unread)


def kind_of(name: str) -> str:
    """The kind in a file's name: `counter`, `histogram`, `summary` or `gauge_livesum`, for one."""
    return name.rpartition("_")[0]


def _values(file: Path) -> Iterator[tuple[str, float]]:
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_size == 0:
            return  # its worker is about to fill it, or was killed just before
        header = opened.read(USED.size)
        size = os.fstat(opened.fileno()).st_size  # after the header, as the file may grow
    kind = kind_of(file.name)
    try:
        if not 0 <= USED.unpack(header)[0] <= size:
            raise ValueError("its header counts more bytes than it has")
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
            check_key(kind, key)
            yield key, value
    # prometheus_client raises RuntimeError for an entry that is longer than the file.
    except (struct.error, LookupError, ValueError, RuntimeError) as error:
        raise CorruptSeries(file.name, error) from error


def _sums(found: Mapping[str, Mapping[str, float]]) -> Sums:
    for kind, sums in found.items():
        for key, value in sums.items():
            check_key(kind, key)
            if not isinstance(value, float | int):
                raise TypeError(f"{value!r} is not a number")
    return found


def _names(found: Sequence[str]) -> frozenset[str]:
    if not all(Path(name).name == name for name in found):
        raise ValueError("an absorbed file is not in the directory")
    return frozenset(found)


def _ceiling(values: Sequence[float]) -> float:
    """The sum, rounded up: Prometheus takes a total that becomes smaller for a restart."""
    total = exact_sum(values)
    if math.isfinite(total) and exact_sum([*values, -total]) > 0:
        return math.nextafter(total, math.inf)
    return total
