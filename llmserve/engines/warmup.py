"""What an engine generates before anyone asks it to."""

from __future__ import annotations

from typing import Final

from llmserve.domain import SamplingParams
from llmserve.engines.task import Task
from llmserve.engines.weights.loading import LoadedModel

WARMUP_TOKENS: Final = 8
DEFAULT_WARMUP: Final = ("Hello",)


def warm_up_task(loaded: LoadedModel, prompt: str) -> Task:
    """A few greedy tokens after a prompt, which is cut where it is too long."""
    room = max(1, loaded.max_context - WARMUP_TOKENS)
    return Task(
        request_id="warm-up",
        prompt_ids=tuple(loaded.tokenizer.encode(prompt)[:room]) or (loaded.pad_id,),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        max_tokens=min(WARMUP_TOKENS, loaded.max_context - 1),
    )
