"""GPU series: none of what can go wrong with a driver fails a scrape."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from loguru import logger
from prometheus_client import CollectorRegistry, generate_latest

from llmserve.observability import gpu
from llmserve.observability.gpu import GPUCollector


class FakeNVML:
    """Two GPUs; breaks where it is told to."""

    def __init__(self, breaks_at: str | None = None) -> None:
        self.breaks_at = breaks_at
        self.num_open = 0

    def __getattr__(self, name: str) -> object:
        def call(*arguments: int) -> object:
            breaks = OSError(f"{name}: driver not loaded") if name == self.breaks_at else None
            if breaks and name != "nvmlShutdown":
                raise breaks
            if name == "nvmlInit":
                self.num_open += 1
            if name == "nvmlShutdown":
                self.num_open -= 1
                if breaks:
                    raise breaks
            return {
                "nvmlDeviceGetCount": 2,
                "nvmlDeviceGetHandleByIndex": arguments[0] if arguments else None,
                "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5, total=8),
                "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=25),
            }.get(name)

        return call


@contextlib.contextmanager
def lines() -> Iterator[list[str]]:
    told: list[str] = []
    sink = logger.add(
        lambda message: told.append(message.record["message"]), level="DEBUG", filter=gpu.__name__
    )
    yield told
    logger.remove(sink)


def scrape(nvml: object) -> str:
    registry = CollectorRegistry()
    registry.register(GPUCollector(nvml))
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    "name", ["nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"]
)
def test_a_driver_that_breaks_anywhere_is_no_series_and_no_error(name: str) -> None:
    nvml = FakeNVML(breaks_at=name)
    assert scrape(nvml) == ""
    assert nvml.num_open == 0


def test_what_a_gpu_does_not_tell_hides_nothing_else() -> None:
    text = scrape(FakeNVML(breaks_at="nvmlDeviceGetUtilizationRates"))
    assert 'llmserve_gpu_memory_used_bytes{gpu="1"} 5.0' in text
    assert "utilization" not in text
    text = scrape(FakeNVML(breaks_at="nvmlDeviceGetMemoryInfo"))
    assert 'llmserve_gpu_utilization_ratio{gpu="1"} 0.25' in text
    assert "memory" not in text


def test_without_the_extra_there_are_no_series_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with lines() as told:
        collector = GPUCollector()
        for _ in range(3):
            assert list(collector.collect()) == []
    (line,) = told
    assert "llmserve[gpu]" in line


def test_a_driver_that_stays_broken_is_told_once() -> None:
    collector = GPUCollector(FakeNVML(breaks_at="nvmlInit"))
    with lines() as told:
        for _ in range(3):
            assert list(collector.collect()) == []
    assert told == ["no GPU series: nvmlInit: driver not loaded"]


def test_this_machine_may_have_no_gpu_at_all() -> None:
    text = generate_latest(_registry_of_the_real_one()).decode()
    assert text == "" or "llmserve_gpu_memory_total_bytes" in text


def _registry_of_the_real_one() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(GPUCollector())
    return registry


def test_each_gpu_has_its_memory_and_utilization() -> None:
    text = scrape(FakeNVML())
    for number in "01":
        assert f'llmserve_gpu_memory_used_bytes{{gpu="{number}"}} 5.0' in text
        assert f'llmserve_gpu_memory_total_bytes{{gpu="{number}"}} 8.0' in text
        assert f'llmserve_gpu_utilization_ratio{{gpu="{number}"}} 0.25' in text
