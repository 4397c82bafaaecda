"""Packed linear layers in place of torch's: the same numbers, and no model is harmed."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import native_models
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmserve.engines.batching.compute.native.kernels import Kernels
from llmserve.engines.batching.compute.native.linears import PackedLinear, pack_linears

# Half a unit in the last of a bfloat16's eight digits.
ROUNDING = 2**-8


@pytest.fixture(params=native_models.PATHS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return native_models.kernels(path=request.param)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("depth", "columns"), [(16, 16), (90, 40), (576, 960), (2100, 7)])
def test_a_packed_layer_says_what_torch_says(
    kernels: Kernels, depth: int, columns: int, has_bias: bool
) -> None:
    layer = nn.Linear(depth, columns, bias=has_bias, dtype=torch.bfloat16).requires_grad_(False)
    exact = copy.deepcopy(layer).double()
    packed = PackedLinear(layer)
    packed.pack(kernels, kernels.linear_workspace())
    for rows in (1, 2, 5, 33, 300):
        x = torch.randn(rows, depth).bfloat16()
        expected = exact(x.double())
        actual = packed(x)
        assert actual.dtype == torch.bfloat16
        assert native_models.error(actual.double(), expected) < ROUNDING


def test_any_number_of_dimensions_and_any_strides_are_taken(kernels: Kernels) -> None:
    layer = nn.Linear(32, 48, dtype=torch.bfloat16).requires_grad_(False)
    packed = PackedLinear(layer)
    packed.pack(kernels, kernels.linear_workspace())
    x = torch.randn(32, 3, 2).bfloat16().permute(2, 1, 0)
    assert packed(x).shape == (2, 3, 48)
    assert torch.equal(packed(x)[1, 2], packed(x[1, 2]))
    assert packed(x[:0]).shape == (0, 3, 48)


def test_gpt2s_transposed_layers_are_packed_too(kernels: Kernels) -> None:
    layer = Conv1D(96, 64).to(torch.bfloat16).requires_grad_(False)
    layer.bias.normal_()
    x = torch.randn(4, 64).bfloat16()
    expected = layer.double()(x.double())
    layer.bfloat16()
    packed = PackedLinear(layer)
    packed.pack(kernels, kernels.linear_workspace())
    assert native_models.error(packed(x).double(), expected) < ROUNDING


@pytest.mark.parametrize(
    ("preset", "num_layers"),
    # Of two layers each: q, k, v, o, gate, up, down; phi3 merges them, mixtral's experts are no
    # linear layers. The head counts where it is not the token table.
    [("tiny-llama", 15), ("tiny-phi3", 9), ("tiny-gpt2", 8), ("tiny-gemma2", 14)],
)
def test_a_model_keeps_its_answers_and_lets_go_of_its_weights(
    preset: str, num_layers: int, kernels: Kernels
) -> None:
    model = native_models.preset_model(preset)
    ids = native_models.tokens(model, 40)
    expected = native_models.true_logits(model, ids)
    allowed = native_models.bfloat16_error(model, ids, expected)
    weights = [
        weakref.ref(layer.weight) for layer in model.modules() if type(layer) in (nn.Linear, Conv1D)
    ]
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert pack_linears(model, kernels) == num_layers
    with torch.inference_mode():
        actual = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert native_models.error(actual, expected) <= 1.1 * allowed
    gc.collect()
    assert sum(weight() is not None for weight in weights) == tied


class Curious(nn.Linear):
    """Somebody's own layer."""


def test_layers_of_another_kind_and_with_hooks_stay_what_they_are(kernels: Kernels) -> None:
    model = native_models.preset_model("tiny-llama")
    mlp = model.model.layers[0].mlp
    mlp.up_proj.__class__ = Curious
    mlp.down_proj.register_forward_pre_hook(lambda module, inputs: None)
    assert pack_linears(model, kernels) == 13
    assert (type(mlp.up_proj), type(mlp.down_proj)) == (Curious, nn.Linear)


def test_answers_that_change_keep_all_layers(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_models.preset_model("tiny-llama")
    monkeypatch.setattr(
        PackedLinear, "forward", lambda self, x: x.new_zeros(*x.shape[:-1], self.out_features)
    )
    reason = pack_linears(model, kernels)
    assert isinstance(reason, str)
    assert "answers change" in reason
    assert type(model.model.layers[0].mlp.gate_proj) is nn.Linear


def test_code_that_reads_a_layers_weight_keeps_layers_of_that_kind(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_models.preset_model("tiny-llama")
    ids = native_models.tokens(model, 12)
    before = native_models.true_logits(model, ids)
    allowed = native_models.bfloat16_error(model, ids, before)
    mlp = model.model.layers[1].mlp
    call = mlp.forward

    def curious(x: torch.Tensor) -> Any:
        return call(x.to(mlp.gate_proj.weight.dtype))

    monkeypatch.setattr(mlp, "forward", curious)
    assert pack_linears(model, kernels) == 13
    assert all(type(layer.mlp.gate_proj) is nn.Linear for layer in model.model.layers)
    assert type(mlp.up_proj) is PackedLinear
    with torch.inference_mode():
        after = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert native_models.error(after, before) <= 1.1 * allowed


def test_code_that_reads_something_else_of_a_layer_keeps_all_layers(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = native_models.preset_model("tiny-llama")
    mlp = model.model.layers[1].mlp
    mlp.gate_proj.extra, call = True, mlp.forward
    monkeypatch.setattr(mlp, "forward", lambda x: call(x) if mlp.gate_proj.extra else None)
    reason = pack_linears(model, kernels)
    assert isinstance(reason, str)
    assert "AttributeError" in reason
    assert type(mlp.gate_proj) is nn.Linear
