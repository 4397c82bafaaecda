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
    """Records the model's logits before anything changes them, and then gets the sampled token.

    It must be the first processor of its `generate` call, and its streamer: it passes the tokens
    on to the bridge, each with its log probabilities. Owned by the worker thread.
    """

    def __init__(self, bridge: TokenBridge, num_top: int) -> None:
        self._bridge = bridge
        self._num_top = num_top
        # On Apple's GPUs a token is streamed only after the next step's logits were seen.
        self._steps: deque[torch.Tensor] = deque()  # (vocab,) each

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Record the scores, (1, vocab), and return them unchanged."""
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
            self._bridge.accept(token_id, self._logprobs_of(self._steps.popleft(), token_id))

    def end(self) -> None:
        """The generation has ended."""
        self._bridge.end()

    def _logprobs_of(self, logprobs: torch.Tensor, token_id: int) -> TokenLogprobs:
        values, ids = logprobs.topk(min(self._num_top, len(logprobs)))
        top = zip(ids.tolist(), values.tolist(), strict=True)
        return TokenLogprobs(token_id, float(logprobs[token_id]), tuple(top))
