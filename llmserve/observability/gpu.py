"""Memory and utilization of the GPUs, asked of the driver whenever somebody looks.

Never kept in the workers' files: every worker would tell of the same GPUs. Needs the extra `gpu`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from loguru import logger
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LABELS = ("gpu",)


class GPUCollector(Collector):
    """Without GPU, driver or the extra there are no series; a scrape never fails for it.

    A GPU that does not tell one thing (utilization of one that is partitioned, memory of one
    that shares the host's) tells the others. Why something is missing is logged once, at DEBUG.
    `nvml` is the module `pynvml`, or what a test puts in its place.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._noted: set[str] = set()
        self._nvml = nvml if nvml is not None else self._find_nvml()

    def collect(self) -> Iterable[Metric]:
        """Three gauges per GPU."""
        if self._nvml is None:
            return []
        try:
            return self._read(self._nvml)
        # Its errors share no base with ours, and a driver that is being updated raises anything.
        except Exception as error:
            self._note(f"no GPU series: {error}")
            return []

    def _read(self, nvml: Any) -> list[Metric]:
        used = GaugeMetricFamily("llmserve_gpu_memory_used_bytes", "Of a GPU.", labels=LABELS)
        total = GaugeMetricFamily("llmserve_gpu_memory_total_bytes", "Of a GPU.", labels=LABELS)
        busy = GaugeMetricFamily(
            "llmserve_gpu_utilization_ratio", "Share of time a GPU computed, 0 to 1.", labels=LABELS
        )
        nvml.nvmlInit()
        try:
            for index in range(nvml.nvmlDeviceGetCount()):
                with self._may_not_tell(index, "memory"):
                    memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
                    used.add_metric([str(index)], memory.used)
                    total.add_metric([str(index)], memory.total)
                with self._may_not_tell(index, "utilization"):
                    handle = nvml.nvmlDeviceGetHandleByIndex(index)
                    busy.add_metric(
                        [str(index)], nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                    )
        finally:
            nvml.nvmlShutdown()
        return [family for family in (used, total, busy) if family.samples]

    @contextlib.contextmanager
    def _may_not_tell(self, index: int, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # as in `collect`, for one reading
            self._note(f"GPU {index} does not tell its {what}: {error}")

    def _find_nvml(self) -> ModuleType | None:
        try:
            return importlib.import_module("pynvml")
        except ImportError as error:
            self._note(f"no GPU series: {error}; pip install 'llmserve[gpu]'")
            return None

    def _note(self, problem: str) -> None:
        if problem not in self._noted:
            self._noted.add(problem)
            logger.debug("{}", problem)
