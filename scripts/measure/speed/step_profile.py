"""Where a step's time goes: the parts of the step loop, timed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from llmserve.engines.batching.compute import runner
from llmserve.engines.batching.compute.runner import Runner
from llmserve.engines.batching.loop import StepLoop
from llmserve.engines.batching.request import Request
from llmserve.engines.batching.schedule.scheduler import Scheduler

PARTS = (
    (StepLoop, "turn", "whole step"),
    (Scheduler, "plan", "plan"),
    (Runner, "prepare", "plan to tensors"),
    (Runner, "run", "forward and sampling"),
    (runner, "sample", "of that, sampling"),
    (Scheduler, "commit", "commit"),
    (Request, "accept", "detokenize and publish"),
)


class StepProfile:
    """Seconds spent in each part, over all steps since `timed` began."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The parts are timed within."""
        patches = [
            mock.patch.object(owner, name, self._timer(getattr(owner, name), label))
            for owner, name, label in PARTS
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()

    def as_markdown(self) -> str:
        """Milliseconds per step and share of the whole."""
        steps, whole = self._calls["whole step"], self._seconds["whole step"]
        lines = ["| part | ms per step | share |", "| --- | ---: | ---: |"]
        for _, _, label in PARTS:
            seconds = self._seconds[label]
            lines.append(f"| {label} | {1000 * seconds / steps:.2f} | {seconds / whole:.1%} |")
        return "\n".join(lines)

    def _timer(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._seconds[label] += time.perf_counter() - begun
                self._calls[label] += 1

        return timed
