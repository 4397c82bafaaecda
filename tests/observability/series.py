"""Files of workers' series, written and read. (Not a test.)"""

from __future__ import annotations

from pathlib import Path

from loguru import logger
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from llmserve.observability.worker_files import WorkerFiles

COUNTER = mmap_key("c", "c_total", ["model"], ["m"], "Text.")
SECONDS = mmap_key("s", "s_sum", [], [], "Text.")
NOBODY = "4194305.1"
"""No PID is so large."""


def write(directory: Path, name: str, values: dict[str, float]) -> None:
    """As prometheus_client does it, but there all at once."""
    hidden = directory / "hidden"
    found = MmapedDict(str(hidden))
    for key, value in values.items():
        found.write_value(key, value, 0.0)
    found.close()
    hidden.rename(directory / name)


class Log(list[str]):
    """What is logged, from INFO on, while it is entered."""

    def __enter__(self) -> Log:
        self._sink = logger.add(self.append, format="{message}", level="INFO")
        return self

    def __exit__(self, *error: object) -> None:
        logger.remove(self._sink)


def totals(files: WorkerFiles) -> dict[str, float]:
    return {sample.name: sample.value for family in files.collect() for sample in family.samples}
