"""Folders that cannot be served are refused by what stands in the way; good ones are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_files import LAYERS, write_adapter

from llmserve.engines.adapters.adapter import read_adapter
from llmserve.engines.adapters.unservable import Unservable

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "IA3": ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
    "prefix tuning": ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
    "no type": ({"peft_type": None}, "peft_type is None"),
    "bias": ({"bias": "lora_only"}, "bias is 'lora_only'"),
    "lora bias": ({"lora_bias": True}, "lora_bias"),
    "DoRA": ({"use_dora": True}, "use_dora"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "parameters": ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
    "tokens": ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
    "activated": ({"alora_invocation_tokens": [7]}, "alora_invocation_tokens"),
    "replicated": ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
    "unknown": ({"a_field_of_tomorrow": {"on": True}}, "a_field_of_tomorrow"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
    "rank": ({"r": 3}, r"matrices for model.layers.0.attn.q_proj are"),
    "no rank": ({"r": 0}, "its r is 0"),
    "text for a rank": ({"r": "2"}, "its r is '2'"),
    "alpha": ({"lora_alpha": "much"}, "lora_alpha is 'much'"),
    "endless alpha": ({"alpha_pattern": {"q_proj": math.inf}}, "alpha_pattern is inf"),
    "pattern": ({"rank_pattern": {"1.attn.q_proj": 4}}, "layers.1.attn.q_proj are"),
    "no targets": ({"target_modules": []}, "no target_modules"),
    "numbers for targets": ({"target_modules": [1]}, "target_modules is neither"),
    "more targets": ({"target_modules": ["q_proj", "v_proj"]}, "targets .*v_proj, and"),
    "other targets": ({"target_modules": ["v_proj"]}, "q_proj, which its config does not target"),
    "excluded": ({"exclude_modules": ["layers.1.attn.q_proj"]}, "does not target"),
    "no expression": ({"target_modules": "(q_proj"}, "cannot be read"),
    "endless expression": ({"target_modules": r"(.|.|.)*[0-9]"}, "takes too long"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_served_is_named(tmp_path: Path, case: str) -> None:
    config, reason = REFUSED[case]
    with pytest.raises(Unservable, match=reason):
        read_adapter(write_adapter(tmp_path, **config), LAYERS, 8)


def test_a_rank_above_the_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unservable, match="max_adapter_rank is 8"):
        read_adapter(write_adapter(tmp_path, rank=9), LAYERS, 8)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unservable, match="not finite"):
        read_adapter(write_adapter(tmp_path, number=math.nan), LAYERS, 8)


def test_the_output_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unservable, match="lm_head: no adapters on the output head"):
        read_adapter(write_adapter(tmp_path, modules=("lm_head",)), LAYERS, 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "lora_embedding_A"),
        ("base_model.model.model.norm.weight", "model.norm.weight"),
        ("base_model.model.model.layers.0.attn.o_proj.lora_A.weight", "no linear layer '.*o_proj'"),
        ("base_model.model.model.layers.0.attn.v_proj.lora_A.weight", "does not target|only one"),
        ("other.lora_A.weight", "'other.lora_A.weight'"),
    ],
)
def test_numbers_that_have_no_place_are_named(tmp_path: Path, name: str, reason: str) -> None:
    folder = write_adapter(tmp_path, extra={name: torch.zeros(2, 8)})
    with pytest.raises(Unservable, match=reason):
        read_adapter(folder, LAYERS, 8)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(Unservable, match="pickle"):
        read_adapter(folder, LAYERS, 8)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(Unservable, match=r"no adapter_model.safetensors"):
        read_adapter(folder, LAYERS, 8)


def test_files_that_are_cut_or_garbled_are_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(Unservable, match="cannot be read"):
        read_adapter(folder, LAYERS, 8)
    for content in ("{", "[]", '"LORA"'):
        (folder / "adapter_config.json").write_text(content)
        with pytest.raises(Unservable, match=r"adapter_config.json is not"):
            read_adapter(folder, LAYERS, 8)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(Unservable, match=r"adapter_config.json cannot be read"):
        read_adapter(folder, LAYERS, 8)


def test_a_config_without_matrices_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, modules=("nothing",), target_modules="all-linear")
    with pytest.raises(Unservable, match="no matrices"):
        read_adapter(folder, LAYERS, 8)


def test_scales_follow_alpha_and_rank(tmp_path: Path) -> None:
    first, second = "model.layers.0.attn.q_proj", "model.layers.1.attn.q_proj"
    plain = read_adapter(write_adapter(tmp_path / "plain", number=1.0), LAYERS, 8)
    assert plain.rank == 2
    assert list(plain.pairs) == [first, second]
    assert plain.pairs[first].up.unique().tolist() == [2.0]  # 4 / 2
    stabilised = write_adapter(
        tmp_path / "rs",
        number=1.0,
        use_rslora=True,
        alpha_pattern={"layers.1.*q_proj": 6},
        target_modules=r".*\.q_proj",
        base_model_name_or_path="some/base",
        lora_dropout=0.1,
    )
    other = read_adapter(stabilised, LAYERS, 8)
    assert other.pairs[first].up.unique().tolist() == pytest.approx([4 / math.sqrt(2)])
    assert other.pairs[second].up.unique().tolist() == pytest.approx([6 / math.sqrt(2)])
    assert other.base == "some/base"


def test_layers_are_chosen_by_number(tmp_path: Path) -> None:
    late = {name: shape for name, shape in LAYERS.items() if ".1." in name}
    for pattern in (None, "layers", ["blocks", "layers"]):
        folder = write_adapter(tmp_path, layers=late, layers_to_transform=1, layers_pattern=pattern)
        assert list(read_adapter(folder, LAYERS, 8).pairs) == ["model.layers.1.attn.q_proj"]
    folder = write_adapter(tmp_path, layers=late, layers_to_transform=[1], layers_pattern="blocks")
    with pytest.raises(Unservable, match="does not target"):
        read_adapter(folder, LAYERS, 8)
