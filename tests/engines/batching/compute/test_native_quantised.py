"""Quantised layers compute by torch: the native kernels take weights that are plain bfloat16."""

from __future__ import annotations

import native_models
import pytest
import torch
from needs import needs_package
from torch import nn

from llmserve.engines.batching.compute.native.decoder import build_native
from llmserve.engines.batching.compute.native.kernels import Kernels
from llmserve.engines.batching.compute.native.linears import pack_linears

# Half a unit in the last of a bfloat16's eight digits.
ROUNDING = 2**-8


@pytest.fixture(params=[native_models.PLAIN, native_models.TILES])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return native_models.kernels(path=request.param)


@pytest.mark.parametrize("how", ["subclass", "own forward"])
def test_quantised_layers_are_left_alone(how: str, kernels: Kernels) -> None:
    model = native_models.preset_model("tiny-llama")
    if how == "subclass":  # of torch.Tensor, which says that it is bfloat16
        needs_package("torchao")
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model.model, Int8WeightOnlyConfig())
    else:
        for layer in model.model.modules():
            if isinstance(layer, nn.Linear):
                layer.forward = layer.forward
    tokens = torch.arange(1, 20)[None]
    with torch.inference_mode():
        expected = model(tokens).logits
        assert "is quantised" in build_native(model, kernels)
        assert pack_linears(model, kernels) == 1, "the head"
        actual = model(tokens).logits
    assert native_models.error(actual.double(), expected.double()) < ROUNDING
