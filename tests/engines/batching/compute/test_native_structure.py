"""What the native decoder refuses, by name and before it has touched anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from native_models import kernels, preset_model, shaped_model, tokens, true_logits
from torch import nn

from llmserve.engines.batching.compute.native.decoder import build_native
from llmserve.engines.batching.compute.native.structure import Unknown, read_structure

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class Adapter(nn.Linear):
    """Stands for a linear layer that does more than it seems."""


def another_linear(model: Any) -> None:
    model.model.layers[1].mlp.up_proj = Adapter(64, 128, bias=False, dtype=torch.bfloat16)


def another_part(model: Any) -> None:
    model.model.layers[1].gate = nn.Linear(64, 1, dtype=torch.bfloat16)


def another_norm(model: Any) -> None:
    model.model.norm = nn.LayerNorm(64, dtype=torch.bfloat16)


def another_scale(model: Any) -> None:
    model.model.layers[1].self_attn.scaling = 1.0


def a_hook(model: Any) -> None:
    model.model.layers[0].mlp.register_forward_hook(lambda *_: None)


def a_float_norm(model: Any) -> None:
    model.model.norm.float()


def another_place(model: Any) -> None:
    model.model.layers[1].to("meta")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_linear, "layer 1 has a Adapter"),
        (another_part, r"layer 1 does not have the usual parts \(gate\)"),
        (another_norm, "LayerNorm"),
        (another_scale, "layer 1 scales"),
        (a_hook, "hook"),
        (a_float_norm, "model.norm.weight is float32"),
        (another_place, "on meta"),
    ],
)
def test_a_model_with_changed_parts_is_refused(change: Callable[[Any], None], message: str) -> None:
    model = preset_model("tiny-llama")
    change(model)
    with pytest.raises(Unknown, match=message):
        read_structure(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_act": "gelu"}, "activation is 'gelu'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"head_dim": 24}, "head_dim size of 24"),
        ({"intermediate_size": 100}, "intermediate size of 100"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2, "head_dim": 32}, "equal groups"),
    ],
)
def test_an_unusual_config_is_refused(settings: dict[str, Any], message: str) -> None:
    config = shaped_model("llama", **SIZES).config
    for key, value in settings.items():
        # Not through the constructor, which refuses some of these itself.
        config.__dict__[key] = value
    if "rope_parameters" in settings:
        config.rope_parameters["rope_theta"] = 10_000.0
    model = type(shaped_model("llama", **SIZES))(config).to(torch.bfloat16)
    with pytest.raises(Unknown, match=message):
        read_structure(model)


@pytest.mark.parametrize(
    "preset", ["tiny-gemma2", "tiny-olmo2", "tiny-phi3", "tiny-gpt2", "tiny-mixtral"]
)
def test_another_family_is_refused_by_name(preset: str) -> None:
    with pytest.raises(Unknown, match=preset.removeprefix("tiny-")):
        read_structure(preset_model(preset))


def test_code_of_another_origin_is_refused() -> None:
    model = preset_model("tiny-llama")
    model.__class__ = type("Custom", (type(model),), {"__module__": "elsewhere"})
    with pytest.raises(Unknown, match="elsewhere"):
        read_structure(model)


def test_a_refused_model_still_works() -> None:
    model = preset_model("tiny-llama").float()
    ids = tokens(model, 12)
    before = true_logits(model, ids)
    reason = build_native(model, kernels())
    assert isinstance(reason, str)
    assert "takes bfloat16" in reason or "take bfloat16" in reason
    assert torch.equal(true_logits(model, ids), before)


@pytest.mark.parametrize(
    ("family", "settings", "windows"),
    [
        ("mistral", {}, (16,) * 4),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, (None, None, 16, 16)),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 1}, (None, 16, 16, 16)),
        (
            "smollm3",
            {"use_sliding_window": True, "no_rope_layer_interval": 2},
            (None, 16, None, 16),
        ),
        ("llama", {}, (None,) * 4),
    ],
)
def test_each_layers_window_is_the_one_that_transformers_keeps_to(
    family: str, settings: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    """A window that is only in the config is none."""
    shape = SIZES | {"num_hidden_layers": 4, "vocab_size": 128, "pad_token_id": 0}
    model = shaped_model(family, **shape | settings, sliding_window=16)
    assert read_structure(model).windows == windows
