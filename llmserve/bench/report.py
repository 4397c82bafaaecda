"""The results of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from rich.table import Table
from rich.text import Text

from llmserve.bench.answer import TimedAnswer
from llmserve.bench.load import Collected
from llmserve.printable import printable

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, quantiles (nearest rank) and maximum, in seconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """The spread of these values; `None` if there are none."""
        if not values:
            return None
        ordered = sorted(values)
        p50, p90, p95, p99 = (ordered[math.ceil(q * len(ordered)) - 1] for q in QUANTILES)
        return cls(sum(ordered) / len(ordered), p50, p90, p95, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Goal:
    """What makes an answer good: seconds to the first token, and average seconds between tokens;
    `None` is no bound."""

    ttft: float | None = None
    itl: float | None = None

    def is_met(self, answer: TimedAnswer) -> bool:
        """Whether a complete answer was fast enough."""
        if answer.error is not None or answer.ttft is None:
            return False
        gaps = answer.gaps
        mean = sum(gaps) / len(gaps) if gaps else 0.0
        return (self.ttft is None or answer.ttft <= self.ttft) and (
            self.itl is None or mean <= self.itl
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Times in seconds, over complete answers; rates are per second of the whole run.

    Attributes:
        is_counted_by_server: token counts are the server's; otherwise events were counted.
        good: share of all requests that met the goal; `goodput` is their rate per second.
    """

    requests: int
    succeeded: int
    seconds: float
    errors: dict[str, int]
    input_tokens: int
    output_tokens: int
    is_counted_by_server: bool
    output_tokens_per_second: float
    total_tokens_per_second: float
    requests_per_second: float
    good: float | None
    goodput: float | None
    ttft: Spread | None
    itl: Spread | None
    e2e: Spread | None

    @classmethod
    def of(cls, collected: Collected[TimedAnswer], goal: Goal | None = None) -> Self:
        """Summarize a run."""
        answers = collected.answers
        whole = [answer for answer in answers if answer.error is None]
        seconds = max(collected.ended_at - collected.began_at, 1e-9)
        inputs = sum(answer.prompt_tokens or 0 for answer in whole)
        outputs = sum(answer.output_tokens for answer in whole)
        met = sum(goal.is_met(answer) for answer in answers) if goal is not None else None
        return cls(
            requests=len(answers),
            succeeded=len(whole),
            seconds=seconds,
            errors=dict(Counter(a.error for a in answers if a.error is not None).most_common()),
            input_tokens=inputs,
            output_tokens=outputs,
            is_counted_by_server=all(a.completion_tokens is not None for a in whole),
            output_tokens_per_second=outputs / seconds,
            total_tokens_per_second=(inputs + outputs) / seconds,
            requests_per_second=len(whole) / seconds,
            good=None if met is None else met / max(1, len(answers)),
            goodput=None if met is None else met / seconds,
            ttft=Spread.of([answer.ttft for answer in whole if answer.ttft is not None]),
            itl=Spread.of([gap for answer in whole for gap in answer.gaps]),
            e2e=Spread.of([answer.seconds for answer in whole]),
        )

    def as_json(self) -> dict[str, Any]:
        """Every field, times in seconds."""
        return asdict(self)

    def tables(self) -> list[Table]:
        """The report as tables for a terminal."""
        times = Table("milliseconds", *("mean", "p50", "p90", "p95", "p99", "max"))
        for name, spread in (("first token", self.ttft), ("between tokens", self.itl),
                             ("whole answer", self.e2e)):  # fmt: skip
            if spread is not None:
                times.add_row(name, *(f"{1000 * v:,.1f}" for v in asdict(spread).values()))
        counted = "" if self.is_counted_by_server else " (events counted: the server sent no usage)"
        sums = Table("", "", show_header=False)
        sums.add_row("answers", f"{self.succeeded} of {self.requests} in {self.seconds:.1f} s")
        sums.add_row("tokens in, out", f"{self.input_tokens:,}, {self.output_tokens:,}{counted}")
        sums.add_row("output tokens/s", f"{self.output_tokens_per_second:,.1f}")
        sums.add_row("all tokens/s", f"{self.total_tokens_per_second:,.1f}")
        sums.add_row("answers/s", f"{self.requests_per_second:,.2f}")
        if self.good is not None:
            sums.add_row("within the goal", f"{self.good:.1%}, {self.goodput:,.2f}/s")
        for error, count in self.errors.items():
            sums.add_row(Text(printable(error), "red"), str(count))
        return [sums, times]
