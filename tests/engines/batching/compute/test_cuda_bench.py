"""`scripts/bench-gpu`, as far as it goes without a GPU."""

from __future__ import annotations

import pytest
import torch
from measure.gpu.bench.__main__ import main
from measure.roofline import step_bytes, weight_bytes
from transformers import LlamaConfig, LlamaForCausalLM

from llmserve.engines.batching.compute.kv_cache import LayerShape


def make_model(*, is_tied: bool) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=is_tied,
        )
    )


def test_a_machine_without_a_gpu_is_told_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "no CUDA device" in said.err


def test_a_step_reads_one_token_table_whether_tied_or_not() -> None:
    tied, untied = make_model(is_tied=True), make_model(is_tied=False)
    assert weight_bytes(tied) == weight_bytes(untied)
    assert weight_bytes(tied) == sum(each.nbytes for each in tied.parameters())


def test_a_step_reads_every_rows_keys_and_values() -> None:
    model = make_model(is_tied=True)
    layers = [LayerShape(kv_heads=2, head_dim=16)] * 3
    cached = step_bytes(model, layers, torch.bfloat16, batch=8, context=10) - weight_bytes(model)
    assert (
        cached == 3 * 2 * 2 * 16 * 2 * 8 * 10
    )  # layers, K and V, heads, size, bytes, rows, tokens
