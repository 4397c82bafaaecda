"""The Prometheus series. Names and buckets keep the meaning that vLLM's dashboards expect.

Knows nothing of requests or engines: rooms above call its verbs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue

TTFT_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
LATENCY_BUCKETS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
    120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
LAG_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
CANCEL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Every series of one process.

    With `multiprocess_dir` the series of all worker processes are rendered, summed from the
    files that prometheus_client keeps there; it must be the directory that the environment
    variable PROMETHEUS_MULTIPROC_DIR named when prometheus_client was first imported.
    """

    def __init__(self, multiprocess_dir: Path | None = None) -> None:
        if multiprocess_dir is not None and values.ValueClass is MutexValue:
            raise RuntimeError(
                "prometheus_client was imported before PROMETHEUS_MULTIPROC_DIR was set"
            )
        self._multiprocess_dir = multiprocess_dir
        self._registry = registry = CollectorRegistry()
        model = ("model",)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, model, registry=registry, multiprocess_mode="livesum")

        def counter(name: str, text: str, labels: tuple[str, ...] = model) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(
            name: str,
            text: str,
            buckets: tuple[float, ...],
            labels: tuple[str, ...] = model,
        ) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self.running = gauge("llmserve_num_requests_running", "Requests holding a slot.")
        self.waiting = gauge("llmserve_num_requests_waiting", "Requests waiting for a slot.")
        self.rejected = counter(
            "llmserve_requests_rejected", "Requests refused, by error code.", ("reason",)
        )
        self.finished = counter(
            "llmserve_request_success",
            "Requests that ended well, by finish reason.",
            ("model", "finished_reason"),
        )
        self.failed = counter(
            "llmserve_request_failure",
            "Requests that ended in an error event, by error code.",
            ("model", "reason"),
        )
        self.cancelled = counter(
            "llmserve_request_cancelled", "Requests that the client cancelled or left."
        )
        self.prompt_tokens = counter("llmserve_prompt_tokens", "Tokens of prompts prefilled.")
        self.generation_tokens = counter("llmserve_generation_tokens", "Tokens generated.")
        self.wasted_tokens = counter(
            "llmserve_tokens_generated_after_disconnect",
            "Tokens generated after the request was cancelled or its client had left.",
        )
        self.time_to_first_token = histogram(
            "llmserve_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            TTFT_BUCKETS,
        )
        self.inter_token_latency = histogram(
            "llmserve_inter_token_latency_seconds",
            "Between two tokens of a request, as the engine makes them.",
            ITL_BUCKETS,
        )
        self.e2e_latency = histogram(
            "llmserve_e2e_request_latency_seconds",
            "From the request's arrival to its end.",
            LATENCY_BUCKETS,
        )
        self.queue_time = histogram(
            "llmserve_request_queue_time_seconds", "Waiting for a slot.", LATENCY_BUCKETS
        )
        self.prefill_time = histogram(
            "llmserve_request_prefill_time_seconds",
            "From the slot to the first token.",
            LATENCY_BUCKETS,
        )
        self.decode_time = histogram(
            "llmserve_request_decode_time_seconds",
            "From the first token to the last.",
            LATENCY_BUCKETS,
        )
        self.cancel_latency = histogram(
            "llmserve_cancel_latency_seconds",
            "From a cancel or disconnect to the slot being free.",
            CANCEL_BUCKETS,
        )
        self.loop_lag = histogram(
            "llmserve_event_loop_lag_seconds",
            "How much later than asked the event loop woke a timer.",
            LAG_BUCKETS,
            (),
        )
        self.http_requests = counter(
            "llmserve_http_requests",
            "HTTP requests answered, by method, route and status.",
            ("method", "route", "status"),
        )

    def render(self) -> bytes:
        """The exposition text; reads files in multiprocess mode, so call it off the loop."""
        if self._multiprocess_dir is None:
            return generate_latest(self._registry)
        _forget_dead_workers(self._multiprocess_dir)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=str(self._multiprocess_dir))  # type: ignore[no-untyped-call]  # prometheus_client leaves this constructor untyped
        return generate_latest(everyone)


def _forget_dead_workers(directory: Path) -> None:
    """A dead worker runs nothing: drop its live gauges. Its counters stay, they are history."""
    for file in directory.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
