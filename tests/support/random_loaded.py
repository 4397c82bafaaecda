"""Random models as engines get them, without files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmserve.domain import SamplingFields
from llmserve.engines.weights.loading import LoadedModel


def random_loaded(family: str, max_context: int, **settings: Any) -> LoadedModel:
    """A float32 model of a family, with 128 tokens and a tokenizer that only knows that."""
    config = AutoConfig.for_model(family, **settings)
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    return LoadedModel(
        model=model,
        tokenizer=SimpleNamespace(vocab_size=128),  # type: ignore[arg-type]  # all that is asked of it
        eos_ids=(),
        pad_id=0,
        sampling=SamplingFields(),
        max_context=max_context,
        device=torch.device("cpu"),
        placement="cpu",
        dtype="float32",
        parameters=0,
        weight_bytes=0,
    )
