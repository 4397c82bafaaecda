"""What `generate` asks after each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import StoppingCriteria

from llmserve.clock import awake_clock
from llmserve.engines.bridge import TokenBridge
from llmserve.engines.step_report import StepReport
from llmserve.engines.token_rule import AnswerRule


class EndOfStep(StoppingCriteria):
    """Called after each step of `generate`: reports it, and stops at the end of the answer, at a
    cancel and at the deadline."""

    def __init__(
        self,
        bridge: TokenBridge,
        prefill_tokens: int,
        on_step: Callable[[StepReport], None],
        rule: AnswerRule | None,
    ) -> None:
        self._bridge = bridge
        self._rule = rule
        self._tokens = prefill_tokens
        self._on_step = on_step
        self._begun_at = awake_clock()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Whether the newest token, the last of `input_ids`, was the last one: shape (rows,)."""
        now = awake_clock()
        self._on_step(StepReport(now - self._begun_at, self._tokens, sampled=1))
        self._tokens, self._begun_at = 1, now
        token_id = int(input_ids[0, -1])
        if self._rule is not None:
            self._rule.accept(token_id)
        is_over = self._bridge.is_over(token_id)
        return torch.full((input_ids.shape[0],), is_over, device=input_ids.device)
