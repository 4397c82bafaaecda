"""Memory and utilization of the GPUs, read from the driver at every scrape.

Never kept in the workers' files: every worker would report the same GPUs. Needs the extra `gpu`.
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
    """Gauges of all GPUs; none without GPU, driver or the extra, but a scrape never fails.

    If a GPU lacks one reading (utilization if it is partitioned, memory if it shares the host's),
    the others are still reported. The reason is logged once, at DEBUG. `nvml` is by default the
    module `pynvml`.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._noted: set[str] = set()
        self._nvml = nvml if nvml is not None else self._find_nvml()

    def collect(self) -> Iterable[Metric]:
        """Up to three gauges per GPU."""
        if self._nvml is None:
            return []
        try:
            return self._read(self._nvml)
        # NVML may be missing, or raise anything while the driver is being updated.
        except Exception as error:
            self._note(f"no GPU series: {error}")
            return []

    def _read(self, nvml: Any) -> list[Metric]:
        used = GaugeMetricFamily(
            "llmserve_gpu_memory_used_bytes",
            "Memory of a GPU in use by all processes.",
            labels=LABELS,
        )
        total = GaugeMetricFamily(
            "llmserve_gpu_memory_total_bytes", "Memory that a GPU has.", labels=LABELS
        )
        busy = GaugeMetricFamily(
            "llmserve_gpu_utilization_ratio",
            "Share of time in which a GPU was busy, 0 to 1.",
            labels=LABELS,
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
            self._note(f"GPU {index} does not report its {what}: {error}")

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
