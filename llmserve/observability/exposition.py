"""From series to the text that Prometheus reads: of one process, or of all workers together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from llmserve.observability.gpu import GPUCollector
from llmserve.observability.vllm_names import VLLMNames


class Exposition:
    """Renders a registry, or the files that the workers keep in `multiprocess_dir`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        multiprocess_dir: Path | None,
        compat: Literal["none", "vllm"],
    ) -> None:
        self._own = registry
        self._directory = multiprocess_dir
        self._compat = compat
        self._gpus = GPUCollector()

    def render(self) -> bytes:
        """The text; blocks on files and on the GPU driver."""
        text = self._rendered()
        gpus = CollectorRegistry()
        gpus.register(self._gpus)
        return text + generate_latest(gpus)

    def _rendered(self) -> bytes:
        source = self._own if self._directory is None else self._everyone(self._directory)
        text = generate_latest(source)
        if self._compat == "vllm":
            renamed = CollectorRegistry()
            renamed.register(VLLMNames(source))
            text += generate_latest(renamed)
        return text

    def _everyone(self, directory: Path) -> CollectorRegistry:
        _forget_dead_workers(directory)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=str(directory))  # type: ignore[no-untyped-call]  # prometheus_client leaves this constructor untyped
        return everyone


def _forget_dead_workers(directory: Path) -> None:
    """A dead worker runs nothing: drop its live gauges. Its counters stay, they are history."""
    for file in directory.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
