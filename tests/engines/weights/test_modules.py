"""Which weights of a repository are needed."""

from __future__ import annotations

import json

import pytest

from llmserve.engines.weights.checkpoint import NoCheckpoint
from llmserve.engines.weights.modules import unneeded_weights


def test_a_model_without_modules_needs_its_checkpoint() -> None:
    names = ("config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx")
    assert unneeded_weights(names, lambda name: "{}") == {"pytorch_model.bin", "onnx/model.onnx"}


def test_a_transformer_may_lie_in_a_folder() -> None:
    modules = json.dumps([{"path": "0_Transformer"}, {"path": "1_Pooling"}, {"path": "2_Dense"}])
    files = {
        "modules.json": modules,
        "pytorch_model.bin": "",
        "0_Transformer/config.json": "{}",
        "0_Transformer/model.safetensors": "",
        "0_Transformer/pytorch_model.bin": "",
        "2_Dense/pytorch_model.bin": "",
    }
    unneeded = {"pytorch_model.bin", "0_Transformer/pytorch_model.bin"}
    assert unneeded_weights(files, files.__getitem__) == unneeded
    del files["0_Transformer/model.safetensors"], files["0_Transformer/pytorch_model.bin"]
    with pytest.raises(NoCheckpoint):
        unneeded_weights(files, files.__getitem__)


@pytest.mark.parametrize("broken", ["{", "[]", '[{"path": null}]'])
def test_broken_modules_are_reported_by_who_loads_them(broken: str) -> None:
    files = {"modules.json": broken, "model.safetensors": ""}
    assert unneeded_weights(files, files.__getitem__) == frozenset()
