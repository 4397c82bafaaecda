"""Models that also see or hear say of texts what the whole model says, and hold no tower."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from engines.batching.asked import Asked, engine_of
from safetensors.torch import load_file, save_file
from tiny_multimodal import FAMILIES, VOCAB, multimodal_model

from llmserve.domain import Conversation, EngineInfo, EngineKind, Message, ModelSpec
from llmserve.engines.weights.loading import LoadedModel, load_model
from llmserve.errors import ModelBroken

pytestmark = pytest.mark.slow

LENGTHS = (1, 5, 20, 60)
NEW_TOKENS = 20
OF_TEXT_ALONE = {
    "qwen3_5": "Qwen3_5ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "gemma3n": "Gemma3nForCausalLM",
    "gemma4": "Gemma4ForCausalLM",
    "mistral3": "MistralForCausalLM",
    "llama4": "Llama4ForCausalLM",
    "internvl": "Qwen3ForCausalLM",
}
"""The class for text alone, where there is one."""
BY_THREADS = ("qwen2_5_vl", "gemma3")
OF_PARTS = (
    "{% for turn in messages %}<{{ turn.role }}>{% for part in turn.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
"""A chat template that takes no strings, where processors have theirs."""
HELLO = Conversation((Message("user", "Hello"),))
HEARS = ("gemma3n", "gemma4", "qwen2_5_omni")


@dataclass(frozen=True)
class Whole:
    """A model's folder, and what the whole model says to each prompt."""

    family: str
    folder: Path
    weights: int
    prompts: Sequence[list[int]]
    expected: Sequence[list[int]]


@pytest.fixture(scope="module", params=FAMILIES)
def whole(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    family: str = request.param
    folder = tmp_path_factory.mktemp("multimodal") / family
    model = multimodal_model(family, folder, tiny_model)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": OF_PARTS}))
    numbers = random.Random(7)
    prompts = [[numbers.randrange(4, VOCAB) for _ in range(length)] for length in LENGTHS]
    thinker = getattr(model, "thinker", model)
    expected = [_generated(thinker, prompt) for prompt in prompts]
    assert len({tuple(said) for said in expected}) == len(prompts)
    return Whole(family, folder, sum(p.numel() for p in model.parameters()), prompts, expected)


@torch.inference_mode()
def _generated(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    said = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=0,
        eos_token_id=None,
    )
    return list(said[0, len(prompt) :].tolist())


def _loaded(folder: Path, **more: Any) -> LoadedModel:
    spec = ModelSpec("seer", path=folder, dtype="float32", device="cpu", **more)
    return load_model(spec, folder, lambda progress: None)


def test_texts_are_continued_as_by_the_whole_model(whole: Whole) -> None:
    async def check(kind: EngineKind) -> EngineInfo:
        async with engine_of(whole.folder, kind) as engine:
            asked = [Asked(engine, prompt, NEW_TOKENS) for prompt in whole.prompts]
            said = await asyncio.gather(*(one.tokens() for one in asked))
            assert said == whole.expected, engine.info.why
            return engine.info

    info = asyncio.run(asyncio.wait_for(check(EngineKind.AUTO), 120))
    if whole.family in BY_THREADS:
        asyncio.run(asyncio.wait_for(check(EngineKind.THREADED), 120))
    assert info.architecture.startswith(whole.family)
    [told] = [line for line in info.warnings if "for text only" in line]
    assert "images" in told
    assert ("audio" in told) == (whole.family in HEARS)


def test_towers_are_not_in_memory(whole: Whole) -> None:
    loaded = _loaded(whole.folder)
    names = [name for name, _ in loaded.model.named_parameters()]
    assert not [name for name in names if "vision_tower" in name or "visual" in name]
    assert not [name for name in names if "audio_tower" in name]
    assert 0 < loaded.parameters < whole.weights
    if whole.family in OF_TEXT_ALONE:
        assert type(loaded.model).__name__ == OF_TEXT_ALONE[whole.family]
    assert loaded.max_context == 256
    assert loaded.vocab == VOCAB
    assert 2 in loaded.eos_ids
    assert loaded.tokenizer.render(HELLO) == "<user>Hello"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "mistral3"])
def test_checkpoints_with_the_names_of_the_models_modules_are_read_too(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = multimodal_model(family, tmp_path, tiny_model)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert weights.keys() != load_file(tmp_path / "model.safetensors").keys()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    ids = torch.arange(10, 30)[None]
    with torch.inference_mode():
        expected, actual = (m(input_ids=ids).logits for m in (model, _loaded(tmp_path).model))
    torch.testing.assert_close(actual, expected)


def test_a_weight_that_is_missing_is_named(whole: Whole, tmp_path: Path) -> None:
    _without(whole.folder, tmp_path, "layers.1.", "input_layernorm")
    with pytest.raises(
        ModelBroken, match=r"1 of its weights are not in the checkpoint \(.*input_layernorm"
    ):
        _loaded(tmp_path)


def _without(folder: Path, into: Path, *parts: str) -> None:
    """The folder without the one weight of the decoder whose name has these parts."""
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (into / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    [gone] = [
        name
        for name in weights
        if all(part in name for part in parts) and "tower" not in name and "vision" not in name
    ]
    del weights[gone]
    save_file(weights, into / "model.safetensors", {"format": "pt"})


def test_a_weight_that_a_model_of_text_lacks_is_named(tiny_model: Path, tmp_path: Path) -> None:
    _without(tiny_model, tmp_path, "layers.1.", "input_layernorm")
    with pytest.raises(ModelBroken, match=r"\(model\.layers\.1\.input_layernorm\.weight\)"):
        _loaded(tmp_path)
