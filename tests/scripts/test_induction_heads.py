"""Heads that are planted into an untrained model: it continues what it has seen before."""

from __future__ import annotations

import torch
from induction_heads import plant_induction_heads
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 500


def untrained() -> LlamaForCausalLM:
    torch.manual_seed(3)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            attn_implementation="eager",
        )
    ).eval()


def twice(length: int) -> torch.Tensor:
    """Random tokens, no two alike, and the same again, (1, 2 * length)."""
    once = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(4))[:length]
    return torch.cat([once, once])[None]


@torch.no_grad()
def share_copied(model: LlamaForCausalLM, ids: torch.Tensor) -> float:
    """How many tokens of the second half are predicted right, but for its first two."""
    length = ids.shape[1] // 2
    predicted = model(ids).logits[0, length + 1 : -1].argmax(-1)
    return float((predicted == ids[0, length + 2 :]).float().mean())


def test_an_untrained_model_copies_with_them_and_not_without() -> None:
    model = untrained()
    assert share_copied(model, twice(60)) < 0.1
    plant_induction_heads(model)
    assert share_copied(model, twice(60)) > 0.8


@torch.no_grad()
def test_the_first_layers_head_looks_at_the_token_before() -> None:
    model = untrained()
    plant_induction_heads(model)
    weights = model(twice(60), output_attentions=True).attentions[0][0, 0]  # (tokens, tokens)
    assert weights.diagonal(-1).min() > 0.9


def test_the_constant_dimension_adds_the_same_to_every_logit() -> None:
    model = untrained()
    plant_induction_heads(model)
    embeddings = model.get_input_embeddings().weight
    assert torch.equal(embeddings[:, 0], embeddings[:1, 0].expand(VOCABULARY))
    assert model.lm_head.weight is embeddings
