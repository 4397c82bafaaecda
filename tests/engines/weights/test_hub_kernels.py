"""Kernels from the hub come while a model is loaded, or not at all."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers.integrations import hub_kernels as theirs

from llmserve.domain import ModelSpec
from llmserve.engines.weights import hub_kernels, packing
from llmserve.engines.weights.declared import declared_in
from llmserve.engines.weights.hub_kernels import close_to_requests, fetch_kernels, fetching
from llmserve.errors import ModelBroken


class Hub:
    """Stands for transformers' way to the hub."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.asked: list[str] = []

    def get_kernel(self, name: str, **told: Any) -> ModuleType:
        self.asked.append(name)
        if self.problem is not None:
            raise self.problem
        return ModuleType(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """As if the package `kernels` were installed."""
    found = Hub()
    monkeypatch.setattr(hub_kernels, "_get_kernel", found.get_kernel)
    monkeypatch.setattr(theirs, "get_kernel", theirs.get_kernel)  # restored after the test
    monkeypatch.setattr(theirs, "_KERNEL_MODULE_MAPPING", {})
    monkeypatch.setattr(theirs.lazy_load_kernel, "__defaults__", ({},))
    for module in (theirs, hub_kernels):
        monkeypatch.setattr(module, "is_kernels_available", lambda: True)
    monkeypatch.setattr(theirs, "_kernels_enabled", True)
    close_to_requests()
    return found


def test_a_request_does_not_fetch_what_was_not_fetched_at_load(hub: Hub) -> None:
    assert theirs.lazy_load_kernel("deep-gemm") is None
    with pytest.raises(FileNotFoundError, match="while a model is loaded"):
        theirs.get_kernel("kernels-community/anything", version=1)
    assert hub.asked == []


def test_another_thread_does_not_fetch_while_one_loads(hub: Hub) -> None:
    told: list[Any] = []
    with fetching():
        thread = threading.Thread(target=lambda: told.append(theirs.lazy_load_kernel("deep-gemm")))
        thread.start()
        thread.join()
    assert told == [None]
    assert hub.asked == []


def test_what_was_fetched_at_load_is_there_for_requests(hub: Hub) -> None:
    fetch_kernels("it", ("finegrained-fp8", "deep-gemm"))
    wanted = ["kernels-community/finegrained-fp8", "kernels-community/deep-gemm"]
    assert hub.asked == wanted
    assert theirs.lazy_load_kernel("finegrained-fp8") is not None
    assert hub.asked == wanted, "once"


def test_offline_the_model_is_broken_and_says_why(hub: Hub) -> None:
    hub.problem = ConnectionError("no route to the hub")
    with pytest.raises(ModelBroken, match=r"ConnectionError: no route .*dequantize = true"):
        fetch_kernels("it", ("finegrained-fp8",))
    with pytest.raises(ModelBroken, match=r"gpt-oss-triton-kernels.*no route"):
        fetch_kernels("it", ("kernels-community/gpt-oss-triton-kernels",))


def test_what_only_makes_it_faster_may_be_missing(hub: Hub) -> None:
    fetch_kernels("it", ("finegrained-fp8",))
    hub.problem = ConnectionError("gone")
    fetch_kernels("it", ("finegrained-fp8", "deep-gemm"))


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_kernels, "is_kernels_available", lambda: False)
    with pytest.raises(ModelBroken, match=r"'kernels>=.*dequantize = true"):
        fetch_kernels("it", ("finegrained-fp8",))


@pytest.mark.parametrize(
    ("method", "capability", "problem"),
    [
        ("fp8", (8, 6), r"compute capability 8\.9, and cuda has 8\.6; set dequantize"),
        ("mxfp4", (7, 0), r"compute capability 7\.5, and cuda has 7\.0; set dequantize"),
        ("fp8", (9, 0), None),
        ("mxfp4", (8, 0), None),
    ],
)
def test_a_gpu_gets_its_kernels_before_the_weights(
    hub: Hub, method: str, capability: tuple[int, int], problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    config = Config({"quantization_config": {"quant_method": method}})
    assert declared_in(config.to_dict()) is not None
    spec, device = ModelSpec("it"), torch.device("cuda")
    if problem is not None:
        with pytest.raises(ModelBroken, match=problem):
            packing.packing_of(spec, config, device)
        assert hub.asked == []
    else:
        told = packing.packing_of(spec, config, device).quantization
        assert told is not None
        assert not told.is_expanded
        assert hub.asked


@pytest.mark.parametrize(("bits", "kind"), [(8, "float"), (4, "int"), (8, "int")])
def test_compressed_tensors_compute_as_they_are_in_fp8_alone(
    bits: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(packing, "require_packages", lambda model, method: None)
    group = {"weights": {"num_bits": bits, "type": kind}}
    told = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    config, device = Config({"quantization_config": told}), torch.device("cuda")
    if kind == "float":
        found = packing.packing_of(ModelSpec("it"), config, device)
        assert found.values == {"use_optimized_inference": True}
    else:
        with pytest.raises(ModelBroken, match=r"kernels for FP8 alone; set dequantize = true"):
            packing.packing_of(ModelSpec("it"), config, device)


class Config:
    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def to_dict(self) -> dict[str, Any]:
        return self._values
