"""Log probabilities of the tokens of one `generate` call. Knows no sampling parameters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from transformers import LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from llmserve.domain import TokenLogprobs

if TYPE_CHECKING:
    import torch

    from llmserve.engines.bridge import TokenBridge


class LogprobsTap(LogitsProcessor, BaseStreamer):
    """Sees the model's logits before anything changes them, then hears which token was chosen.

    It must be the first processor of its `generate` call, and its streamer: the tokens go on to
    the bridge, each with its log probabilities. Owned by the worker thread.
    """

    def __init__(self, bridge: TokenBridge, num_top: int) -> None:
        self._bridge = bridge
        self._num_top = num_top
        # On Apple's GPUs a token is streamed when the next step's logits were seen already.
        self._steps: deque[torch.Tensor] = deque()  # (vocab,) each

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Look at the scores, (1, vocab), which stay as they are."""
        self._steps.append(scores[0].log_softmax(-1))
        return scores

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (first call) or a token, shape (1,).

        Raises:
            StopStringMatched: the text is complete.
        """
        if not self._steps:
            return
        for token_id in value.flatten().tolist():
            self._bridge.accept(token_id, self._told(self._steps.popleft(), token_id))

    def end(self) -> None:
        """Generation is over."""
        self._bridge.end()

    def _told(self, logprobs: torch.Tensor, token_id: int) -> TokenLogprobs:
        values, ids = logprobs.topk(min(self._num_top, len(logprobs)))
        top = zip(ids.tolist(), values.tolist(), strict=True)
        return TokenLogprobs(token_id, float(logprobs[token_id]), tuple(top))
