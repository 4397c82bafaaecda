"""Packed weights: what is loaded of them, what they take, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quantised
import torch
from make_model import make_model
from needs import needs_package
from safetensors.torch import load_file, save_file

from llmserve.domain import EngineKind, LoadProgress, ModelSpec, Quantization
from llmserve.engines.weights import methods, packing
from llmserve.engines.weights.footprint import footprint
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import ModelBroken

for package in ("torchao", "bitsandbytes", "compressed_tensors", "gguf"):
    needs_package(package)

pytestmark = pytest.mark.slow

NEAR = {8: 0.07, 4: 0.2}
"""How far weights of so many bits may be from the original ones, as a share of the largest."""


def loaded_from(folder: Path, **told: Any) -> LoadedModel:
    spec = ModelSpec("it", path=folder, **{"device": "cpu"} | told)
    return load_model(spec, folder, lambda progress: None)


def gguf_of(kind: str) -> Callable[[Path, Path], Path]:
    def make(base: Path, out: Path) -> Path:
        out.mkdir()
        quantised.gguf_file(base, out / "weights.gguf", kind)
        return out

    return make


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("make", "method", "bits"),
    [
        (quantised.torchao_int8, "torchao", 8),
        (quantised.bitsandbytes_nf4, "bitsandbytes", 4),
        (quantised.bitsandbytes_int8, "bitsandbytes", 8),
        (quantised.compressed_int4, "compressed-tensors", 4),
        (quantised.compressed_fp8, "compressed-tensors", 8),
        (quantised.fine_grained_fp8, "fp8", 8),
        (gguf_of("Q8_0"), "gguf", 8),
        (gguf_of("Q4_0"), "gguf", 4),
    ],
)
def test_expanded_weights_are_plain_and_near_the_original_ones(
    make: Callable[[Path, Path], Path], method: str, bits: int, dtype: str, tiny_model: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = make(tiny_model, tmp_path / "packed")
    loaded = loaded_from(folder, dtype=dtype, dequantize=True)
    told = loaded.quantization
    assert told is not None
    assert (told.method, told.origin, told.is_expanded) == (method, "checkpoint", True)
    # The norms of this small model weigh, and llama.cpp keeps them in 32 bits.
    assert told.bits == bits + (method == "gguf")
    assert {type(p) for p in loaded.model.parameters()} == {torch.nn.Parameter}
    assert {p.dtype for p in loaded.model.parameters()} == {getattr(torch, dtype)}
    for name, original in load_file(tiny_model / "model.safetensors").items():
        weight = loaded.model.get_parameter(name).float()
        assert (weight - original).abs().max() <= NEAR[bits] * original.abs().max(), name
    assert loaded.weight_bytes == loaded.parameters * (4 if dtype == "float32" else 2)
    size = footprint(ModelSpec("it", path=folder, dtype=dtype, dequantize=True), None)
    assert size is not None
    assert size.weights == pytest.approx(loaded.weight_bytes, rel=0.01)


def test_gguf_of_whole_numbers_is_no_quantisation(tiny_model: Path, tmp_path: Path) -> None:
    loaded = loaded_from(gguf_of("F32")(tiny_model, tmp_path / "f32"))
    assert (loaded.quantization, loaded.dtype) == (None, "float32")


def test_a_gguf_files_own_tokenizer_and_template_are_taken(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = gguf_of("Q8_0")(tiny_model, tmp_path / "packed")
    loaded, plain = loaded_from(folder), loaded_from(tiny_model)
    text = "Once upon a time, there were two <b>foxes</b>."
    assert loaded.tokenizer.encode(text) == plain.tokenizer.encode(text)
    assert loaded.tokenizer.has_template
    assert loaded.dtype == "bfloat16", "what the native kernels take"
    assert loaded.eos_ids == (2,)


@pytest.mark.parametrize("block", [32, 48])
def test_blocks_that_are_cut_are_expanded_and_experts_are_merged(
    tmp_path: Path, block: int
) -> None:
    make_model("tiny-qwen3-moe", tmp_path / "base")  # its sides are 8 and more
    folder = quantised.fine_grained_fp8(tmp_path / "base", tmp_path / "packed", block)
    plain = loaded_from(tmp_path / "base").model.state_dict()
    weights = loaded_from(folder, dequantize=True).model.state_dict()
    assert weights.keys() == plain.keys()
    for name, original in plain.items():
        assert (weights[name] - original).abs().max() <= NEAR[8] * original.abs().max(), name


def test_experts_of_mxfp4_are_expanded(tmp_path: Path) -> None:
    make_model("tiny-gpt-oss", tmp_path / "base")
    folder = quantised.mxfp4(tmp_path / "base", tmp_path / "packed")
    loaded = loaded_from(folder, dtype="bfloat16", dequantize=True)
    assert loaded.quantization == Quantization("mxfp4", 4, is_expanded=True)
    size = footprint(ModelSpec("it", path=folder, dtype="bfloat16", dequantize=True), None)
    assert size is not None
    assert size.weights == loaded.weight_bytes == loaded.parameters * 2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (quantised.torchao_int8, {}),
        (quantised.bitsandbytes_nf4, {}),
        (quantised.bitsandbytes_int8, {}),
        (lambda base, out: base, {"quantize": "int8"}),
    ],
    ids=["torchao", "nf4", "bitsandbytes", "at-load"],
)
def test_packed_weights_are_counted_as_they_lie_in_memory(
    make: Callable[[Path, Path], Path], told: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    folder = make(tiny_model, tmp_path / "packed")
    plain = loaded_from(tiny_model, dtype="bfloat16")
    loaded = loaded_from(folder, dtype="bfloat16", **told)
    assert loaded.parameters == plain.parameters
    assert loaded.dtype == "bfloat16"
    kept = sum(p.numel() for n, p in plain.model.named_parameters() if not is_packed(n))
    share = 0.5 if "nf4" in make.__name__ else 1
    least = 2 * kept + share * (plain.parameters - kept)
    assert least < loaded.weight_bytes < 1.1 * least
    size = footprint(ModelSpec("it", path=folder, dtype="bfloat16", **told), None)
    assert size is not None
    assert size.weights == pytest.approx(loaded.weight_bytes, rel=0.05)


def test_experts_that_are_not_packed_are_told_and_counted(tmp_path: Path) -> None:
    make_model("tiny-qwen3-moe", tmp_path)
    loaded = loaded_from(tmp_path, quantize="int8")
    assert loaded.warnings == ("its experts are not packed to int8: they are no linear layers",)
    size = footprint(ModelSpec("it", path=tmp_path, quantize="int8"), None)
    assert size is not None
    assert size.weights == pytest.approx(loaded.weight_bytes, rel=0.02)


def is_packed(name: str) -> bool:
    return "proj" in name


def test_what_is_packed_already_is_not_packed_again(tiny_model: Path, tmp_path: Path) -> None:
    folder = quantised.bitsandbytes_int8(tiny_model, tmp_path / "packed")
    loaded = loaded_from(folder, quantize="int8")
    assert loaded.quantization == Quantization("bitsandbytes", 8)
    assert loaded.warnings == (
        "quantize = int8 is ignored: its weights are packed already (bitsandbytes)",
    )


@pytest.mark.parametrize("told", ["fp8", "compressed_fp8", "compressed_int4"])
def test_without_kernels_for_the_device_expanding_is_proposed(
    told: str, tiny_model: Path, tmp_path: Path
) -> None:
    make = {"fp8": quantised.fine_grained_fp8}.get(told) or getattr(quantised, told)
    folder = make(tiny_model, tmp_path / "packed")
    with pytest.raises(ModelBroken, match=r"only a GPU computes .* set dequantize = true"):
        loaded_from(folder)


@pytest.mark.parametrize(
    ("method", "extra"),
    [("gptq", "gptq"), ("awq", "gptq"), ("bitsandbytes", "bitsandbytes"), ("torchao", "torchao"),
     ("compressed-tensors", "compressed-tensors")],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(
    method: str, extra: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda package: None)
    with pytest.raises(ModelBroken, match=rf"not installed; pip install 'llmserve\[{extra}\]'"):
        loaded_from(declaring(tiny_model, tmp_path, {"quant_method": method}))


def test_gguf_without_its_package_is_told(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gguf_of("Q8_0")(tiny_model, tmp_path / "packed")
    monkeypatch.setattr(methods, "find_spec", lambda package: None)
    with pytest.raises(ModelBroken, match=r"gguf is not installed; pip install 'llmserve\[gguf\]'"):
        loaded_from(folder)


@pytest.mark.parametrize(
    ("values", "told", "problem"),
    [
        ({"quant_method": "abacus"}, {}, "packed by 'abacus', which this version"),
        ({"quant_method": "gptq", "bits": 4}, {"dequantize": True}, "cannot be expanded"),
        ({"quant_method": "quanto"}, {"dequantize": True}, "cannot be expanded"),
    ],
)
def test_what_nobody_can_do_is_refused(
    values: dict[str, Any], told: dict[str, Any], problem: str, tiny_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(packing, "require_packages", lambda model, method: None)
    with pytest.raises(ModelBroken, match=problem):
        loaded_from(declaring(tiny_model, tmp_path, values), **told)


def test_layers_packed_in_two_ways_are_not_expanded_as_if_in_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = quantised.compressed_int4(tiny_model, tmp_path / "packed")
    config = json.loads((folder / "config.json").read_text())
    groups = config["quantization_config"]["config_groups"]
    groups["group_1"] = {"targets": ["re:.*up_proj"], "weights": {"num_bits": 8, "type": "int"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelBroken, match="layers packed in 2 ways"):
        loaded_from(folder, dequantize=True)


def test_weights_that_the_quantizer_does_not_find_are_no_random_ones(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = quantised.fine_grained_fp8(tiny_model, tmp_path / "packed")
    tensors = load_file(folder / "model.safetensors")
    odd = {name.replace("up_proj", "op_proj"): tensor for name, tensor in tensors.items()}
    save_file(odd, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"up_proj\.weight"):
        loaded_from(folder, dequantize=True)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no weights at all"])
def test_a_file_that_is_no_gguf_is_refused(
    content: bytes, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    (tmp_path / "it.gguf").write_bytes(content)
    with pytest.raises(ModelBroken, match="cannot be"):
        loaded_from(tmp_path)
    assert footprint(ModelSpec("it", path=tmp_path), None) is not None


def test_the_fingerprint_knows_how_weights_are_packed(tiny_model: Path) -> None:
    plain, packed = loaded_from(tiny_model), loaded_from(tiny_model, quantize="int8")
    infos = [each.info(EngineKind.THREADED, "") for each in (plain, packed)]
    assert infos[0].fingerprint != infos[1].fingerprint
    assert infos[1].quantization == Quantization("int8", 8, "load")


def declaring(base: Path, folder: Path, values: dict[str, Any]) -> Path:
    """A model whose config says this of its weights."""
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": values}))
    return folder


def test_reading_a_gguf_file_tells_its_progress(tiny_model: Path, tmp_path: Path) -> None:
    folder = gguf_of("Q8_0")(tiny_model, tmp_path / "packed")
    told: list[LoadProgress] = []
    load_model(ModelSpec("it", path=folder, device="cpu"), folder, told.append)
    fractions = [p.fraction for p in told if p.stage == "weights" and p.fraction is not None]
    assert len(fractions) > 10
    assert max(fractions) > 0.9
