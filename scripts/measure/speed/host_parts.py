"""What the host does in a decode step beside computing: how long a fast GPU would wait for it.

CPU time, so that neighbours on the machine do not count.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from llmserve.domain import Event, SamplingParams
from llmserve.engines.batching.compute.batch import Batch
from llmserve.engines.batching.schedule.plan import Slice, StepPlan
from llmserve.engines.batching.schedule.scheduler import Scheduler
from llmserve.engines.batching.schedule.sequence import Sequence
from llmserve.engines.batching.stream import Stream
from llmserve.engines.bridge import TokenBridge
from llmserve.engines.job import Job
from llmserve.engines.task import TokenTask
from llmserve.text.tokenizer import Tokenizer

BLOCK_SIZE = 16
UNEVEN = "plan to tensors, 255 short contexts and one of 128k"
BUDGETS = {
    "plan": 0.3,
    "plan to tensors": 3.0,
    "commit": 0.3,
    "detokenize and publish": 0.6,
    UNEVEN: 3.0,
}
"""Milliseconds of CPU time that the parts may take at 64 rows × 8,192 tokens. Beyond them the host
holds up a GPU that decodes such a step in some 20 ms."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """Median milliseconds of each part, in its order."""

    rows: int
    context: int
    milliseconds: dict[str, float]

    def as_markdown(self) -> str:
        """Beside what each may take."""
        lines = ["| part | CPU ms per step | budget |", "| --- | ---: | ---: |"]
        for part, spent in self.milliseconds.items():
            lines.append(f"| {part} | {spent:.2f} | {BUDGETS[part]:.1f} |")
        whole = sum(self.milliseconds.values()) - self.milliseconds[UNEVEN]
        budget = sum(BUDGETS.values()) - BUDGETS[UNEVEN]
        return "\n".join([*lines, f"| the first four together | {whole:.2f} | {budget:.1f} |"])


class _Unread:
    """A mailbox that nobody reads."""

    def post(self, event: Event, wake: Any = None) -> bool:
        return False


def measure(
    tokenizer: Tokenizer, rows: int = 64, context: int = 8192, steps: int = 30
) -> HostParts:
    """Decode steps of so many rows with that many tokens each, without a model."""
    scheduler = Scheduler(
        num_blocks=rows * (context // BLOCK_SIZE + 2 + steps // BLOCK_SIZE),
        block_size=BLOCK_SIZE,
        max_tokens_per_step=rows * context,
        max_sequences=rows,
    )
    streams = []
    for number in range(rows):
        prompt = tuple((number * 31 + place) % 1000 + 10 for place in range(context))
        streams.append(_stream(tokenizer, prompt, steps))
        scheduler.add(streams[-1].sequence)
    prefill = scheduler.plan()
    assert len(prefill.slices) == rows, "all prompts fit into the first step"
    scheduler.commit(prefill, [11] * rows)
    spent: dict[str, list[float]] = defaultdict(list)
    uneven = StepPlan(tuple(_last_token(tokens) for tokens in [1024] * 255 + [131_072]))

    def timed(part: str, work: Callable[[], Any]) -> Any:
        begun = time.thread_time()
        result = work()
        spent[part].append(time.thread_time() - begun)
        return result

    for step in range(steps):
        plan = timed("plan", scheduler.plan)
        timed("plan to tensors", lambda plan=plan: Batch.from_plan(plan, BLOCK_SIZE, _CPU))
        tokens = [12 + step] * rows
        timed("commit", lambda plan=plan, tokens=tokens: scheduler.commit(plan, tokens))
        timed("detokenize and publish", lambda step=step: _accept_all(streams, 12 + step))
        timed(UNEVEN, lambda: Batch.from_plan(uneven, BLOCK_SIZE, _CPU))
    medians = {part: 1000 * statistics.median(times) for part, times in spent.items()}
    return HostParts(rows, context, medians)


_CPU = torch.device("cpu")


def _last_token(context: int) -> Slice:
    blocks = list(range(-(-context // BLOCK_SIZE)))
    return Slice(Sequence([11] * context, blocks=blocks), context - 1, 1, is_sampled=True)


def _stream(tokenizer: Tokenizer, prompt: tuple[int, ...], steps: int) -> Stream[None]:
    # One more than there are steps: nobody ends.
    task = TokenTask(
        request_id="host",
        prompt_ids=prompt,
        sampling=SamplingParams(temperature=0.0),
        max_tokens=steps + 1,
    )
    job = Job(task, _Unread(), on_done=lambda: None)  # type: ignore[arg-type]
    bridge = TokenBridge(job, tokenizer, (), time.monotonic)
    bridge.start()
    return Stream(job, bridge, None)


def _accept_all(streams: list[Stream[None]], token_id: int) -> None:
    for stream in streams:
        stream.accept(token_id, None)
