"""Modules after pooling: what is wrong with one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llmserve.engines.encoding.files import Layer
from llmserve.engines.encoding.layers import activation, load_layer
from llmserve.engines.encoding.unsupported import UnsupportedEncoder

CPU = torch.device("cpu")
DENSE: dict[str, Any] = {
    "in_features": 4, "out_features": 2, "activation_function": "torch.nn.ReLU",
}  # fmt: skip


@pytest.mark.parametrize("name", ["torch.nn.Bilinear", "os.system", "mine.Tanh", "torch.load"])
def test_an_unknown_activation_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedEncoder, match=name):
        activation(name)


def test_weights_that_are_missing_or_do_not_fit_are_told(tmp_path: Path) -> None:
    layer = Layer("Dense", tmp_path, DENSE)
    with pytest.raises(UnsupportedEncoder, match="the weights of"):
        load_layer(layer, CPU)
    save_file({"linear.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedEncoder, match="the weights of"):
        load_layer(layer, CPU)


def test_nothing_is_unpickled_but_tensors(tmp_path: Path) -> None:
    torch.save({"linear.weight": Path}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"[Ww]eights only"):
        load_layer(Layer("Dense", tmp_path, DENSE), CPU)


def test_a_dense_layer_beside_what_it_was_given(tmp_path: Path) -> None:
    weights = {
        "linear.weight": torch.randn(2, 4),
        "linear.bias": torch.randn(2),
        "residual.weight": torch.randn(2, 4),
    }
    torch.save(weights, tmp_path / "pytorch_model.bin")
    layer = load_layer(Layer("Dense", tmp_path, DENSE | {"use_residual": True}), CPU)
    given = torch.randn(3, 4)
    wanted = (given @ weights["linear.weight"].T + weights["linear.bias"]).relu()
    wanted = wanted + given @ weights["residual.weight"].T
    with torch.inference_mode():
        torch.testing.assert_close(layer(given), wanted)
