"""A causal language model whose forward pass is a sleep; copied into the simulated model's folder.

A sleep releases the GIL and burns no core, as does a thread that waits for a GPU.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class SimulatedConfig(PretrainedConfig):
    """How long a forward pass takes, and the one token that comes of it."""

    model_type = "simulated"

    def __init__(self, forward_seconds: float = 0.5, answer_id: int = 3, **kwargs: Any) -> None:
        self.forward_seconds = forward_seconds
        self.answer_id = answer_id
        super().__init__(**kwargs)


class SimulatedForCausalLM(PreTrainedModel, GenerationMixin):
    """Waits, then says `answer_id`. Its embedding is there because a model has one."""

    config_class = SimulatedConfig

    def __init__(self, config: SimulatedConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The table that tells callers the device and the vocabulary."""
        return self.embed_tokens

    def forward(
        self, input_ids: torch.Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> CausalLMOutputWithPast:
        """Logits, (batch, 1, vocab), after `forward_seconds`; input_ids are (batch, length)."""
        time.sleep(self.config.forward_seconds)
        logits = torch.zeros(input_ids.shape[0], 1, self.config.vocab_size)
        logits[..., self.config.answer_id] = 1.0
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)
