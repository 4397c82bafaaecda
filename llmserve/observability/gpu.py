"""Memory and utilization of the GPUs, asked of the driver whenever somebody looks.

Never kept in the workers' files: every worker would tell of the same GPUs. Needs the extra `gpu`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from loguru import logger
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LABELS = ("gpu",)


class GPUCollector(Collector):
    """Without GPU, driver or the extra there are no series; a scrape never fails for it.

    `nvml` is the module `pynvml`, or what a test puts in its place.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml if nvml is not None else _find_nvml()

    def collect(self) -> Iterable[Metric]:
        """Three gauges per GPU."""
        if self._nvml is None:
            return []
        try:
            return self._read(self._nvml)
        # Its errors share no base with ours, and a driver that is being updated raises anything.
        except Exception as error:
            logger.debug("no GPU series: {}", error)
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
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                rates = nvml.nvmlDeviceGetUtilizationRates(handle)
                used.add_metric([str(index)], memory.used)
                total.add_metric([str(index)], memory.total)
                busy.add_metric([str(index)], rates.gpu / 100)
        finally:
            nvml.nvmlShutdown()
        return [used, total, busy]


def _find_nvml() -> ModuleType | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None
