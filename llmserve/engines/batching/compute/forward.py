"""What runs a model over one batch."""

from __future__ import annotations

from typing import Protocol

import torch

from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.compute.kv_cache import KVCache


class Forward(Protocol):
    """Computes a batch and writes its keys and values into the cache. One thread calls it."""

    def __call__(self, batch: Batch, cache: KVCache) -> torch.Tensor:
        """Logits of the sampled positions, (num_sampled, vocab) in float32."""
        ...
