"""Models with random weights, made on the device and put together as a loaded model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from random_models.presets import find_preset
from random_models.tokenizer import build_tokenizer
from transformers import AutoModelForCausalLM

from llmserve.domain import SamplingFields
from llmserve.engines.batching.compute.cache_shape import CacheShape
from llmserve.engines.batching.compute.kv_cache import LayerShape
from llmserve.engines.weights.loading import LoadedModel
from llmserve.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and what each of its layers keeps."""

    name: str
    loaded: LoadedModel
    layers: list[LayerShape]

    @property
    def shape(self) -> CacheShape:
        """As what computes a model's steps takes it."""
        return CacheShape(tuple(self.layers))

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        return sum(layer.bytes_per_token(self.loaded.model.dtype) for layer in self.layers)


def make_subject(
    preset: str, device: torch.device, dtype: torch.dtype = torch.bfloat16, max_context: int = 16384
) -> Subject:
    """The preset's shape with whatever weights transformers starts from."""
    config = find_preset(preset).config()
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    loaded = LoadedModel(
        model=model,
        tokenizer=Tokenizer(build_tokenizer(config.vocab_size, config.max_position_embeddings)),
        eos_ids=(),
        pad_id=0,
        sampling=SamplingFields(),
        max_context=min(config.max_position_embeddings, max_context),
        device=device,
        placement=str(device),
        dtype=str(dtype).removeprefix("torch."),
        parameters=sum(p.numel() for p in model.parameters()),
        weight_bytes=sum(p.nbytes for p in model.parameters()),
    )
    return Subject(preset, loaded, layers_of(config))


def layers_of(config: Any) -> list[LayerShape]:
    """All layers of the full presets are alike."""
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    return [LayerShape(config.num_key_value_heads, head_dim)] * config.num_hidden_layers
