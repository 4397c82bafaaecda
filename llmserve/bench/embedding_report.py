"""The results of a run that asked for embeddings."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from llmserve.bench.embeddings import TimedEmbeddings
from llmserve.bench.load import Collected
from llmserve.bench.report import Spread
from llmserve.printable import printable


@dataclass(frozen=True, slots=True)
class EmbeddingReport:
    """Times in seconds, over complete answers; rates are per second of the whole run.

    Attributes:
        tokens, tokens_per_second: by the server's usage; `None` if an answer had none.
        latency: from a request to the end of its answer.
    """

    requests: int
    succeeded: int
    seconds: float
    errors: dict[str, int]
    inputs: int
    tokens: int | None
    inputs_per_second: float
    tokens_per_second: float | None
    requests_per_second: float
    latency: Spread | None

    @classmethod
    def of(cls, collected: Collected[TimedEmbeddings]) -> Self:
        """Summarize a run."""
        answers = collected.answers
        whole = [answer for answer in answers if answer.error is None]
        seconds = max(collected.ended_at - collected.began_at, 1e-9)
        counts = [answer.tokens for answer in whole if answer.tokens is not None]
        tokens = sum(counts) if len(counts) == len(whole) else None
        inputs = sum(answer.inputs for answer in whole)
        return cls(
            requests=len(answers),
            succeeded=len(whole),
            seconds=seconds,
            errors=dict(Counter(a.error for a in answers if a.error is not None).most_common()),
            inputs=inputs,
            tokens=tokens,
            inputs_per_second=inputs / seconds,
            tokens_per_second=None if tokens is None else tokens / seconds,
            requests_per_second=len(whole) / seconds,
            latency=Spread.of([answer.seconds for answer in whole]),
        )

    def as_json(self) -> dict[str, Any]:
        """Every field, times in seconds."""
        return asdict(self)

    def tables(self) -> list[Table]:
        """The report as tables for a terminal."""
        sums = Table("", "", show_header=False)
        sums.add_row("answers", f"{self.succeeded} of {self.requests} in {self.seconds:.1f} s")
        tokens = "the server sent no usage" if self.tokens is None else f"{self.tokens:,}"
        sums.add_row("inputs, tokens", f"{self.inputs:,}, {tokens}")
        sums.add_row("inputs/s", f"{self.inputs_per_second:,.1f}")
        if self.tokens_per_second is not None:
            sums.add_row("tokens/s", f"{self.tokens_per_second:,.1f}")
        sums.add_row("answers/s", f"{self.requests_per_second:,.2f}")
        for error, count in self.errors.items():
            sums.add_row(Text(printable(error), "red"), str(count))
        times = Table("milliseconds", *("mean", "p50", "p90", "p95", "p99", "max"))
        if self.latency is not None:
            times.add_row("answer", *(f"{1000 * v:,.1f}" for v in asdict(self.latency).values()))
        return [sums, times]
