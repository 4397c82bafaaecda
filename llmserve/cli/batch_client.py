"""A client of a running server's /v1/files and /v1/batches, for the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from llmserve.cli.answers import check
from llmserve.errors import ConfigurationError
from llmserve.printable import printable
from llmserve.server_url import server_url

TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
LOOK_SECONDS: Final = 1.0
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})

Batch = dict[str, Any]


class BatchClient:
    """Talks to one server. What its answers cause is translated by whoever calls (`answers.py`)."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._client = httpx.Client(
            base_url=server_url(url).geturl() + "/v1/",
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=TIMEOUT,
        )
        self._console = Console(stderr=True, highlight=False)

    def submit(self, file: Path, fields: Mapping[str, Any]) -> Batch:
        """Upload the file, as it is read, and begin a batch.

        Raises:
            ConfigurationError: the file cannot be read, or the server refuses.
        """
        try:
            with file.open("rb") as opened, self._progress(str(file)) as (bars, task):
                bars.update(task, total=file.stat().st_size)
                reader = _Told(opened, lambda size: bars.advance(task, size))
                form = {"file": (file.name, reader, "application/jsonl")}
                uploaded = self._asked("POST", "files", data={"purpose": "batch"}, files=form)
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
        return self._asked("POST", "batches", json={"input_file_id": uploaded["id"], **fields})

    def batch(self, batch_id: str) -> Batch:
        """How far it is."""
        return self._asked("GET", f"batches/{batch_id}")

    def batches(self) -> list[Batch]:
        """The latest ones of this key, the newest first."""
        return list(self._asked("GET", "batches?limit=100")["data"])

    def cancel(self, batch_id: str) -> Batch:
        """End it."""
        return self._asked("POST", f"batches/{batch_id}/cancel")

    def wait(self, batch_id: str) -> Batch:
        """Until it has ended, with a bar that shows how far it is."""
        with self._progress(batch_id) as (bars, task):
            while True:
                batch = self.batch(batch_id)
                counts = batch["request_counts"]
                bars.update(
                    task,
                    description=printable(f"{batch['id']} {batch['status']}"),
                    total=counts["total"] or None,
                    completed=counts["completed"] + counts["failed"],
                )
                if batch["status"] in ENDED:
                    return batch
                time.sleep(LOOK_SECONDS)

    def fetch(self, file_id: str, out: BinaryIO) -> None:
        """Write what a file contains, as it comes."""
        with self._client.stream("GET", f"files/{file_id}/content") as answer:
            if answer.status_code != httpx.codes.OK:
                answer.read()
            check(answer)
            out.writelines(answer.iter_bytes())

    def _asked(self, method: str, path: str, **arguments: Any) -> Batch:
        answer = self._client.request(method, path, **arguments)
        check(answer)
        return dict(answer.json())

    def _progress(self, what: str) -> _Bar:
        return _Bar(self._console, what)


class _Bar:
    """One bar on stderr; nothing where that is no terminal."""

    def __init__(self, console: Console, what: str) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._what = what

    def __enter__(self) -> tuple[Progress, TaskID]:
        self._bars.start()
        return self._bars, self._bars.add_task(printable(self._what), total=None)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class _Told:
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], object]) -> None:
        self._file = file
        self._tell = tell
        self.fileno = file.fileno  # from which httpx knows the length

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self._tell(len(part))
        return part
