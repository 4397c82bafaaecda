"""Quantised models say by both engines what transformers' own `generate` says with the same
weights, greedy: packed ones, expanded ones, those packed at load, GGUF files; with an adapter,
too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import quantised
import torch
from bounded import run
from engines.batching.asked import Asked, engine_of
from make_model import make_model
from needs import needs_package
from peft_adapters import make_adapter
from safetensors.torch import load_file
from transformers import GenerationConfig

from llmserve.domain import AdapterSpec, EngineKind, ModelSpec
from llmserve.engines.batching.compute.support import cache_shape
from llmserve.engines.weights.loading import LoadedModel, load_model

for package in ("torchao", "bitsandbytes", "compressed_tensors", "gguf"):
    needs_package(package)

pytestmark = [pytest.mark.usefixtures("no_thread_left"), pytest.mark.slow]

PROMPTS = tuple(tuple(range(10 + i, 10 + i + length)) for i, length in enumerate((3, 9, 20, 40)))
COUNT = 10
EXPANDED = {"dequantize": True}


def gguf_q8(base: Path, out: Path) -> Path:
    out.mkdir()
    quantised.gguf_file(base, out / "model.gguf", "Q8_0")
    return out


def plain(base: Path, out: Path) -> Path:
    return base


KINDS: dict[str, tuple[Callable[[Path, Path], Path], dict[str, Any]]] = {
    "torchao": (quantised.torchao_int8, {}),
    "nf4": (quantised.bitsandbytes_nf4, {}),
    "bitsandbytes": (quantised.bitsandbytes_int8, {}),
    "compressed": (quantised.compressed_int4, EXPANDED),
    "fp8": (quantised.fine_grained_fp8, EXPANDED),
    "gguf": (gguf_q8, {}),
    "at-load": (plain, {"quantize": "int8"}),
}
PACKED = ("torchao", "nf4", "bitsandbytes", "at-load")


@dataclass(frozen=True)
class Subject:
    folder: Path
    told: dict[str, Any]
    loaded: LoadedModel
    expected: list[list[int]]


@pytest.fixture(scope="module")
def connections() -> Iterator[list[Any]]:
    """Addresses that anything in this process wanted to reach; nothing is reached."""
    wanted: list[Any] = []

    def refuse(*arguments: Any) -> None:
        wanted.append(arguments)
        raise ConnectionError("a test keeps this process off the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield wanted


@pytest.fixture(scope="module", params=KINDS)
def subject(
    request: pytest.FixtureRequest,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    connections: list[Any],
) -> Subject:
    make, told = KINDS[request.param]
    folder = make(tiny_model, tmp_path_factory.mktemp("quantised") / request.param)
    spec = ModelSpec("tiny", path=folder, dtype="float32", device="cpu", **told)
    loaded = load_model(spec, folder, lambda progress: None)
    return Subject(folder, told, loaded, [generated(loaded, prompt) for prompt in PROMPTS])


@torch.inference_mode()
def generated(loaded: LoadedModel, prompt: tuple[int, ...]) -> list[int]:
    ids = torch.tensor([prompt])
    config = GenerationConfig(do_sample=False, max_new_tokens=COUNT, pad_token_id=loaded.pad_id)
    told = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return list(told[0, len(prompt) :].tolist())


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_both_engines_say_what_generate_says(
    subject: Subject, kind: EngineKind, connections: list[Any]
) -> None:
    async def test() -> None:
        async with engine_of(subject.folder, kind, told=subject.told, max_running=4) as engine:
            assert engine.info.quantization == subject.loaded.quantization
            asked = [Asked(engine, prompt, COUNT) for prompt in PROMPTS]
            answers = await asyncio.gather(*(one.tokens() for one in asked))
            for expected, answer in zip(subject.expected, answers, strict=True):
                assert answer[: len(expected)] == expected  # `generate` ends at an end token

    run(test)
    assert connections == []


def test_kernels_that_round_send_tokens_to_other_experts(tmp_path: Path) -> None:
    make_model("tiny-qwen3-moe", tmp_path / "base")
    folder = quantised.bitsandbytes_nf4(tmp_path / "base", tmp_path / "packed")
    loaded = load_model(ModelSpec("it", path=folder, device="cpu"), folder, lambda progress: None)
    assert (loaded.dtype, loaded.precision) == ("float32", torch.bfloat16)
    assert len(cache_shape(loaded).layers) == 2


def test_layers_too_small_for_a_kernel_of_bitsandbytes_are_computed_by_another(
    tmp_path: Path,
) -> None:
    make_model("tiny-qwen3-next", tmp_path / "base")
    folder = quantised.bitsandbytes_nf4(tmp_path / "base", tmp_path / "packed")
    spec = ModelSpec("it", path=folder, dtype="float32", device="cpu")
    packed, expanded = (
        load_model(replace(spec, dequantize=told), folder, lambda progress: None)
        for told in (None, True)
    )
    assert cache_shape(packed).states
    gate = "model.layers.0.linear_attn.in_proj_ba"
    layer, plain_layer = (each.model.get_submodule(gate) for each in (packed, expanded))
    assert layer.out_features < 32
    assert "4bit" in type(layer).__name__
    hidden = torch.randn(3, layer.in_features)
    with torch.inference_mode():
        assert torch.allclose(layer(hidden), plain_layer(hidden), atol=1e-4)


@pytest.mark.parametrize("subject", PACKED, indirect=True)
@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_adapters_add_to_packed_layers(
    subject: Subject, kind: EngineKind, tiny_model: Path, tmp_path: Path
) -> None:
    assert subject.loaded.quantization is not None
    assert not subject.loaded.quantization.is_expanded
    names = ["q_proj", "v_proj", "down_proj"]
    folder = make_adapter(tiny_model, tmp_path / "adapter", target_modules=names, r=4)
    expected = with_adapter(subject.loaded, folder)
    assert expected != subject.expected

    async def test() -> None:
        async with engine_of(subject.folder, kind, told=subject.told, max_running=4) as engine:
            await engine.load_adapter(AdapterSpec("it", path=folder), folder)
            asked = [Asked(engine, prompt, COUNT, adapter="it") for prompt in PROMPTS]
            answers = await asyncio.gather(*(one.tokens() for one in asked))
            for told, answer in zip(expected, answers, strict=True):
                assert answer[: len(told)] == told

    run(test)


def with_adapter(loaded: LoadedModel, folder: Path) -> list[list[int]]:
    """What `generate` says with hooks of the test's own."""
    stored = load_file(folder / "adapter_model.safetensors")
    hooks = []
    for name, down in stored.items():
        if ".lora_A." in name:
            up = stored[name.replace(".lora_A.", ".lora_B.")] * (8 / 4)
            path = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            layer = loaded.model.get_submodule(path)
            hooks.append(layer.register_forward_hook(partial(added, up @ down)))
    try:
        return [generated(loaded, prompt) for prompt in PROMPTS]
    finally:
        for hook in hooks:
            hook.remove()


def added(change: torch.Tensor, layer: Any, inputs: Any, result: torch.Tensor) -> torch.Tensor:
    return result + torch.nn.functional.linear(inputs[0], change)
