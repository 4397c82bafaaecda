"""The most tokens per second that a machine's ceilings allow for a workload."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmserve.engines.weights.footprint import stored_bytes
from measure.speed.ceilings import Ceilings


@dataclass(frozen=True, slots=True)
class Workload:
    """So many requests at once, all of the same lengths in tokens."""

    concurrency: int
    input_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return f"{self.input_tokens} in / {self.output_tokens} out × {self.concurrency}"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Numbers of a dense decoder in bf16.

    Attributes:
        weight_bytes: read by each decode step.
        body: parameters that multiply every token; `head` those of the output head, which
            multiply the tokens that are sampled from.
        kv_bytes: of one token in the cache.
        usual_tokens: token ids below this make prompts; special ones come late in a vocabulary.
    """

    weight_bytes: int
    body: int
    head: int
    kv_bytes: int
    usual_tokens: int

    @classmethod
    def of(cls, folder: Path) -> Self:
        """From a model's config and weight files."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        head = config["vocab_size"] * config["hidden_size"]
        parameters = stored_bytes(folder) // 2
        table = 0 if config.get("tie_word_embeddings") else head
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        kv = 2 * config["num_hidden_layers"] * kv_heads * head_dim * 2
        usual = config["vocab_size"] * 4 // 5
        return cls(2 * (parameters - table), parameters - table - head, head, kv, usual)


def prefill_seconds(shape: ModelShape, ceilings: Ceilings, work: Workload) -> float:
    """All prompts: FLOPs ÷ GEMM rate at the largest batch."""
    tokens = work.concurrency * work.input_tokens
    flops = 2 * shape.body * tokens + 2 * shape.head * work.concurrency
    return flops / ceilings.flops(tokens)


def step_seconds(shape: ModelShape, ceilings: Ceilings, work: Workload) -> float:
    """One decode step in the middle of the answers: the larger of bytes ÷ bandwidth and FLOPs ÷
    GEMM rate."""
    context = work.input_tokens + work.output_tokens / 2
    num_bytes = shape.weight_bytes + shape.kv_bytes * context * work.concurrency
    flops = 2 * (shape.body + shape.head) * work.concurrency
    return max(num_bytes / ceilings.bytes_per_second, flops / ceilings.flops(work.concurrency))


def limit(shape: ModelShape, ceilings: Ceilings, work: Workload) -> float:
    """Output tokens per second; the first token of each answer comes with its prefill."""
    decode = (work.output_tokens - 1) * step_seconds(shape, ceilings, work)
    seconds = prefill_seconds(shape, ceilings, work) + decode
    return work.concurrency * work.output_tokens / seconds
