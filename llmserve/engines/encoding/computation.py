"""One batch: from inputs to vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmserve.domain import EncodingPurpose
from llmserve.engines.accelerator import answers
from llmserve.engines.encoding.buckets import buckets
from llmserve.engines.encoding.loading import LoadedEncoder
from llmserve.engines.encoding.packing import Packing
from llmserve.engines.encoding.pooling import pooled
from llmserve.engines.encoding_task import TokenInput
from llmserve.engines.failure import as_failure, release_memory
from llmserve.engines.frames import forget_frames
from llmserve.errors import LLMServeError

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]

CPU_OVERHEAD: Final = 32
GPU_OVERHEAD: Final = 512
"""Tokens whose computation takes as long as a forward pass costs by itself."""


@dataclass(frozen=True, slots=True)
class Computed:
    """Attributes:
    vectors: one for each input, (inputs, width).
    padding: tokens that were computed beside the inputs' own.
    """

    vectors: Vectors
    padding: int


class EncoderComputation:
    """Computes batches of inputs, on any thread, also on several at once."""

    def __init__(
        self,
        loaded: LoadedEncoder,
        packing: Packing | None = None,
        set_threads: Callable[[bool], None] = lambda is_alone: None,
    ) -> None:
        """With a packing, inputs are not padded. `set_threads` is called before each batch with
        whether it is computed alone."""
        self._packing = packing
        self._set_threads = set_threads
        self._loaded = loaded
        self._embeds = EncodingPurpose.EMBEDDING in loaded.encoding.purposes
        self._scores = EncodingPurpose.SCORE in loaded.encoding.purposes and not self._embeds
        self._overhead = GPU_OVERHEAD if loaded.device.type == "cuda" else CPU_OVERHEAD

    @property
    def is_packed(self) -> bool:
        """Whether nothing is padded."""
        return self._packing is not None

    @torch.inference_mode()
    def compute(self, inputs: Sequence[TokenInput], *, is_alone: bool = True) -> Computed:
        """Their vectors: embeddings that are not normalized, scores, or logits of classes."""
        self._set_threads(is_alone)
        lengths = [len(each) for each in inputs]
        groups = buckets(lengths, self._overhead)
        if self._packing is not None:
            return Computed(self._packed(self._packing, inputs, groups), padding=0)
        # All groups are started before the first result is waited for.
        parts = [self._group([inputs[index] for index in group]) for group in groups]
        padding = sum(lengths[group[-1]] * len(group) for group in groups) - sum(lengths)
        return Computed(_in_order(parts, groups), padding)

    def diagnose(self, error: Exception) -> LLMServeError:
        """Our error for what `compute` raised; lets go of its memory."""
        failure = as_failure(error, "encoding")
        forget_frames(error)
        release_memory()
        return failure

    def is_lost(self) -> bool:
        """Whether the device computes no more; asked after a failure."""
        return not answers(self._loaded.device)

    def _group(self, inputs: Sequence[TokenInput]) -> Tensor:
        """The last input is the longest; shorter ones are padded at their ends."""
        loaded, longest = self._loaded, len(inputs[-1])
        lengths = torch.tensor([len(each) for each in inputs])
        ids = np.full((len(inputs), longest), loaded.pad_id, dtype=np.int64)
        for row, each in zip(ids, inputs, strict=True):
            row[: len(each)] = each.ids
        fields: dict[str, Any] = {"input_ids": self._there(torch.from_numpy(ids))}
        if any(each.type_ids is not None for each in inputs):
            types = np.zeros_like(ids)
            for row, each in zip(types, inputs, strict=True):
                if each.type_ids is not None:
                    row[: len(each)] = each.type_ids
            fields["token_type_ids"] = self._there(torch.from_numpy(types))
        if len(inputs[0]) < longest:
            mask = torch.arange(longest)[None] < lengths[:, None]
            fields["attention_mask"] = self._there(mask.long())
        if "use_cache" in loaded.takes:
            fields["use_cache"] = False
        made = loaded.model(**fields)
        if not self._embeds:
            logits: Tensor = made.logits.float()
            return loaded.activation(logits) if self._scores else logits
        return self._embedded(made.last_hidden_state, self._there(lengths), inputs)

    def _packed(
        self, packing: Packing, inputs: Sequence[TokenInput], groups: Sequence[Sequence[int]]
    ) -> Vectors:
        hidden = torch.split(packing.hidden(inputs), [len(each) for each in inputs])
        parts = []
        for group in groups:
            rows = [inputs[index] for index in group]
            lengths = self._there(torch.tensor([len(each) for each in rows]))
            padded = pad_sequence([hidden[index] for index in group], batch_first=True)
            parts.append(self._embedded(padded, lengths, rows))
        return _in_order(parts, groups)

    def _embedded(self, hidden: Tensor, lengths: Tensor, inputs: Sequence[TokenInput]) -> Tensor:
        unpooled = None
        if any(each.num_unpooled for each in inputs):
            unpooled = self._there(torch.tensor([each.num_unpooled for each in inputs]))
        vectors = pooled(self._loaded.files.pooling, hidden, lengths, unpooled)
        for layer in self._loaded.layers:
            vectors = layer(vectors)
        return vectors

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._loaded.device)


def _in_order(parts: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Vectors:
    """The rows of the groups in the order of their inputs, (inputs, width)."""
    rows = torch.cat([part.float() for part in parts]).cpu().numpy()
    vectors: Vectors = np.empty_like(rows)
    vectors[[index for group in groups for index in group]] = rows
    return vectors
