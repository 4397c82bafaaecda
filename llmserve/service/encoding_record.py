"""What becomes known of one request to encode."""

from __future__ import annotations

from dataclasses import replace

from llmserve.domain import Usage
from llmserve.engines.encoding_job import EncodingOutcome
from llmserve.errors import Displaced, LLMServeError
from llmserve.observability.timings import Operation
from llmserve.observability.tracing import ENCODED
from llmserve.service.record import RequestRecord


class EncodingRecord(RequestRecord):
    """Publishes it, in the order of its life: `admitted`, perhaps `cancelled`, then `let_go` and
    `ended` in either order. It is in no series about generations."""

    @property
    def queue_seconds(self) -> float:
        """From its arrival until it was admitted, which it was."""
        assert self._admitted_at is not None, "it was admitted"
        return self._admitted_at - self.arrived_at

    def let_go(self) -> None:
        """The engine is done with it."""
        self._observe_cancel()

    def ended(self, outcome: EncodingOutcome | None, tokens: int, *, was_computed: bool) -> None:
        """Nobody waits for it any more; without an outcome it was cancelled. `was_computed` tells
        whether any of its tokens were."""
        moments = self.moments(None, None)
        timings = replace(
            self._timings(moments, None, Usage(tokens if was_computed else 0)),
            outcome=_outcome(outcome),
            operation=Operation.ENCODE,
        )
        metrics, model = self._metrics, self._model
        is_background = self._caller.is_background
        match outcome:
            case None:
                metrics.cancelled.labels(model).inc()
            case Displaced():
                metrics.displaced.labels(model).inc()
            case LLMServeError():
                metrics.failed.labels(model, outcome.code).inc()
            case _:
                metrics.finished.labels(model, ENCODED).inc()
                if not is_background:
                    metrics.encoding_latency.labels(model).observe(timings.duration_seconds)
        self._recorder.finished(timings, moments, self._trace, is_background=is_background)


def _outcome(outcome: EncodingOutcome | None) -> str:
    if outcome is None:
        return "cancelled"
    return outcome.code if isinstance(outcome, LLMServeError) else ENCODED
