"""Which models operators added and removed since the start: a worker that is replaced must come
back with what the others have."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = "models.json"


@dataclass(frozen=True, slots=True)
class Desired:
    """Model arguments as an operator wrote them, beyond those of the settings."""

    loaded: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()

    def applied_to(self, models: Sequence[str]) -> list[str]:
        """What to load at start."""
        return [name for name in dict.fromkeys((*models, *self.loaded))
                if name not in self.unloaded]  # fmt: skip

    def with_loaded(self, name: str) -> Desired:
        """After `name` was loaded."""
        return Desired(
            loaded=tuple(dict.fromkeys((*self.loaded, name))),
            unloaded=tuple(n for n in self.unloaded if n != name),
        )

    def with_unloaded(self, name: str) -> Desired:
        """After `name` was unloaded."""
        return Desired(
            loaded=tuple(n for n in self.loaded if n != name),
            unloaded=tuple(dict.fromkeys((*self.unloaded, name))),
        )


def read_desired(run_dir: Path | None) -> Desired:
    """What was written last; nothing where nobody wrote."""
    if run_dir is None:
        return Desired()
    try:
        content = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
        return Desired(tuple(content["loaded"]), tuple(content["unloaded"]))
    except FileNotFoundError:
        return Desired()


def change_desired(run_dir: Path | None, change: Callable[[Desired], Desired]) -> None:
    """Write down a change. Every worker does so after the same command: it comes out the same."""
    if run_dir is None:
        return
    with (run_dir / f"{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        desired = change(read_desired(run_dir))
        fresh = run_dir / f"{FILE}.new"
        content = {"loaded": list(desired.loaded), "unloaded": list(desired.unloaded)}
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(run_dir / FILE)
