"""GPU series: none of what can go wrong with a driver fails a scrape."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import CollectorRegistry, generate_latest

from llmserve.observability.gpu import GPUCollector


class FakeNVML:
    """Two GPUs; breaks where it is told to."""

    def __init__(self, breaks_at: str | None = None) -> None:
        self.breaks_at = breaks_at
        self.is_open = False

    def __getattr__(self, name: str) -> object:
        def call(*arguments: int) -> object:
            if name == self.breaks_at:
                raise OSError(f"{name}: driver not loaded")
            if name == "nvmlInit":
                self.is_open = True
            if name == "nvmlShutdown":
                self.is_open = False
            return {
                "nvmlDeviceGetCount": 2,
                "nvmlDeviceGetHandleByIndex": arguments[0] if arguments else None,
                "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5, total=8),
                "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=25),
            }.get(name)

        return call


def scrape(nvml: object) -> str:
    registry = CollectorRegistry()
    registry.register(GPUCollector(nvml))
    return generate_latest(registry).decode()


def test_a_driver_that_breaks_anywhere_is_no_series_and_no_error() -> None:
    for name in ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"):
        nvml = FakeNVML(breaks_at=name)
        assert scrape(nvml) == ""
        assert not nvml.is_open


def test_this_machine_may_have_no_gpu_at_all() -> None:
    text = generate_latest(_registry_of_the_real_one()).decode()
    assert text == "" or "llmserve_gpu_memory_total_bytes" in text


def _registry_of_the_real_one() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GPUCollector())
    return registry


def test_each_gpu_has_its_memory_and_utilization() -> None:
    text = scrape(FakeNVML())
    for gpu in "01":
        assert f'llmserve_gpu_memory_used_bytes{{gpu="{gpu}"}} 5.0' in text
        assert f'llmserve_gpu_memory_total_bytes{{gpu="{gpu}"}} 8.0' in text
        assert f'llmserve_gpu_utilization_ratio{{gpu="{gpu}"}} 0.25' in text
