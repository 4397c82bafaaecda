"""Which models are loaded without what they need for other input than text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_multimodal import FAMILIES

from llmserve.engines.weights.towers import multimodal_class, senses, without_towers


@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_is_that_of_the_whole_model(family: str) -> None:
    kind, config = FAMILIES[family]()
    config = getattr(config, "thinker_config", config)
    whole = multimodal_class(config, trusts_code=False)
    assert whole is not None
    assert whole.__name__ in (kind.__name__, "Qwen2_5OmniThinkerForConditionalGeneration")
    config.architectures = [whole.__name__]
    assert multimodal_class(config, trusts_code=True) is whole
    assert "images" in senses(config)


@pytest.mark.parametrize(
    "config",
    [
        transformers.LlamaConfig(),
        transformers.Gemma3TextConfig(),
        transformers.Qwen3_5Config(architectures=["Qwen3_5ForCausalLM"]),
        transformers.T5Gemma2Config(),
    ],
    ids=lambda config: config.model_type,
)
def test_models_of_text_and_of_two_parts_have_none(config: Any) -> None:
    assert multimodal_class(config, trusts_code=False) is None


def test_code_that_is_trusted_decides_itself() -> None:
    config = transformers.Qwen3VLConfig()
    config.auto_map = {"AutoModelForCausalLM": "own.Own"}
    assert multimodal_class(config, trusts_code=True) is None
    assert multimodal_class(config, trusts_code=False) is not None


def test_another_attention_is_for_the_text_side(caplog: pytest.LogCaptureFixture) -> None:
    kind, config = FAMILIES["qwen3_vl"]()
    with torch.device("meta"):
        model = without_towers(kind, config)(config)
    assert model.model.visual is None
    before = config.vision_config._attn_implementation
    model.set_attn_implementation("eager")
    assert config.text_config._attn_implementation == "eager"
    assert model.model.language_model.config._attn_implementation == "eager"
    assert config.vision_config._attn_implementation == before
    assert not caplog.records  # of a part that is not there
