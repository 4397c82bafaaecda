"""What Ollama's clients are told of a model's weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_engine import FakeEngine

from llmserve.api.ollama.details import details
from llmserve.domain import ModelSpec, Quantization
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus, ServedModel


@pytest.mark.parametrize(
    ("quantization", "level"),
    [
        (None, "F32"),
        (Quantization("bitsandbytes", 4), "Q4"),
        (Quantization("int8", 8, "load"), "Q8"),
        (Quantization("quanto"), "QUANTO"),
        (Quantization("gguf", 4, is_expanded=True), "F32"),
    ],
)
def test_the_level_is_what_the_weights_have_in_memory(
    quantization: Quantization | None, level: str
) -> None:
    engine = FakeEngine()
    engine.info = replace(engine.info, quantization=quantization)
    model = ServedModel(ModelSpec("it"), engine=engine, status=ModelStatus.READY)
    assert details(Resolved(model))["quantization_level"] == level
