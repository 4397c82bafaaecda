"""Packing at load: who does it, and what is refused on which device."""

from __future__ import annotations

import pytest
import torch
from needs import needs_package

from llmserve.domain import ModelSpec
from llmserve.engines.weights import quantising as module
from llmserve.engines.weights.quantising import quantising
from llmserve.errors import ModelBroken

needs_package("torchao")

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("kind", ["int4", "fp8"])
def test_a_cpu_packs_to_int8_alone(kind: str) -> None:
    with pytest.raises(ModelBroken, match=rf"cannot be packed to {kind} on a CPU, .* with int8"):
        quantising(ModelSpec("it", quantize=kind), CPU)


@pytest.mark.parametrize(
    ("kind", "capability", "problem"),
    [
        ("int8", (7, 0), r"compute capability 7\.5, not 7\.0"),
        ("int4", (7, 5), r"compute capability 8\.0, not 7\.5"),
        ("fp8", (8, 6), r"compute capability 8\.9, not 8\.6"),
        ("fp8", (9, 0), None),
        ("int4", (8, 0), None),
        ("int8", (7, 5), None),
    ],
)
def test_a_gpu_has_to_have_kernels(
    kind: str, capability: tuple[int, int], problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    spec = ModelSpec("it", quantize=kind)
    if problem is None:
        told = quantising(spec, GPU)
        assert told.get("dtype") == (torch.bfloat16 if kind == "int4" else None)
        assert told["quantization_config"].quant_method == "torchao"
    else:
        with pytest.raises(ModelBroken, match=problem):
            quantising(spec, GPU)


def test_int4_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(ModelBroken, match="with dtype float16: its kernels compute in bfloat16"):
        quantising(ModelSpec("it", quantize="int4", dtype="float16"), GPU)


def test_a_missing_torchao_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(ModelBroken, match=r"pip install 'llmserve\[torchao\]'"):
        quantising(ModelSpec("it", quantize="int8"), CPU)
