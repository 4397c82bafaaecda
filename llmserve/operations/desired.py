"""Which models operators loaded and unloaded since the start: the successor of a replaced worker
must load what the others have."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.domain import AdapterSource
from llmserve.operations.command import adapter_source

FILE: Final = "models.json"


@dataclass(frozen=True, slots=True)
class DesiredAdapter:
    """An adapter that an operator loaded or unloaded, of the model with this argument."""

    base: str
    adapter: AdapterSource
    is_loaded: bool


@dataclass(frozen=True, slots=True)
class Desired:
    """Model arguments as an operator wrote them, beyond those of the settings; upstreams that get
    no requests, by their models' names and their URLs; and adapters."""

    loaded: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()
    drained: tuple[tuple[str, str], ...] = ()
    adapters: tuple[DesiredAdapter, ...] = ()

    def applied_to(self, models: Sequence[str]) -> list[str]:
        """The models to load at start; an adapter's name would load its base."""
        return [
            name
            for name in dict.fromkeys((*models, *self.loaded))
            if name not in self.unloaded and name.rpartition(":")[0] not in self.unloaded
        ]

    def with_loaded(self, name: str) -> Desired:
        """After `name` was loaded."""
        return replace(
            self,
            loaded=tuple(dict.fromkeys((*self.loaded, name))),
            unloaded=tuple(n for n in self.unloaded if n != name),
        )

    def with_unloaded(self, name: str) -> Desired:
        """After `name` was unloaded."""
        return replace(
            self,
            loaded=tuple(n for n in self.loaded if n != name),
            unloaded=tuple(dict.fromkeys((*self.unloaded, name))),
        )

    def with_upstream(self, model: str, url: str, *, is_drained: bool) -> Desired:
        """After an upstream of a model was drained, or gets requests again."""
        others = tuple(pair for pair in self.drained if pair != (model, url))
        return replace(self, drained=(*others, (model, url)) if is_drained else others)

    def with_adapter(self, wish: DesiredAdapter) -> Desired:
        """After an adapter was loaded or unloaded. Nothing is left to say of one that came from
        elsewhere and goes."""
        mine = (wish.base, wish.adapter.name)
        others = tuple(w for w in self.adapters if (w.base, w.adapter.name) != mine)
        is_over = not wish.is_loaded and wish.adapter.source is not None
        return replace(self, adapters=others if is_over else (*others, wish))


Change = Callable[[Desired], Desired]


class DesiredModels:
    """What is desired, in a file that all workers of a box share, and in this worker's memory: the
    file may vanish, and the disk may be full. `run_dir` is the path by which the run directory is
    held, or `None` for a process that is alone.

    Blocks on files. Any thread may use it.
    """

    def __init__(self, run_dir: Path | None) -> None:
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._pending: list[Change] = []
        self.known = Desired()
        self.known = self._read()

    def change(self, change: Change) -> None:
        """Record a change. Every worker does so after a command, with the same result.

        Raises:
            OSError: it cannot be written; `restore` will try again.
        """
        with self._lock:
            self._pending.append(change)
            self._write()

    def restore(self) -> None:
        """Write what could not be written before, and the whole file if it has vanished.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            has_vanished = self._run_dir is not None and not (self._run_dir / FILE).exists()
            if self._pending or (has_vanished and self.known != Desired()):
                self._write()

    def _read(self) -> Desired:
        if self._run_dir is None:
            return self.known
        try:
            content = json.loads((self._run_dir / FILE).read_text(encoding="utf-8"))
            loaded, unloaded = tuple(content["loaded"]), tuple(content["unloaded"])
            drained = tuple((model, url) for model, url in content.get("drained", ()))
            wishes = (
                DesiredAdapter(wish["base"], adapter_source(wish["adapter"]), wish["is_loaded"])
                for wish in content.get("adapters", ())
            )
            return Desired(loaded, unloaded, drained, tuple(wishes))
        except FileNotFoundError:
            return self.known
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.error("{}, which says what operators loaded and unloaded, cannot be read: {}",
                         self._run_dir.resolve() / FILE, error)  # fmt: skip
            return self.known

    def _write(self) -> None:
        if self._run_dir is None:
            self._pending.clear()
            return
        with (self._run_dir / f"{FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            desired = self._read()
            for change in self._pending:
                desired = change(desired)
            content = asdict(desired)
            fresh = self._run_dir / f"{FILE}.new"
            fresh.write_text(json.dumps(content), encoding="utf-8")
            fresh.replace(self._run_dir / FILE)
        self.known = desired
        self._pending.clear()
