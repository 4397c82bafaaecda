"""The Prometheus series. Names and buckets keep the meaning that vLLM's dashboards expect.

Knows nothing of requests or engines: the rooms above set the series.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.registry import Collector

from llmserve.observability.buckets import (
    CANCEL_BUCKETS,
    FILL_BUCKETS,
    ITL_BUCKETS,
    LAG_BUCKETS,
    LATENCY_BUCKETS,
    STEP_BUCKETS,
    TTFT_BUCKETS,
)
from llmserve.observability.exposition import Exposition
from llmserve.observability.shared_values import share_values
from llmserve.observability.worker_files import WorkerFiles

LabelNames = tuple[str, ...]
MODEL: LabelNames = ("model",)
WORKER: LabelNames = ("worker",)
UPSTREAM: LabelNames = ("model", "upstream")


class Metrics:
    """Every series of one process.

    With `multiprocess_dir` the series of all worker processes are rendered, summed from the
    files that each keeps there. With `compat="vllm"`, series that vLLM has as well are also
    rendered under vLLM's names.
    """

    def __init__(
        self, multiprocess_dir: Path | None = None, compat: Literal["none", "vllm"] = "none"
    ) -> None:
        self._registry = CollectorRegistry()
        self._shared = share_values(multiprocess_dir) if multiprocess_dir is not None else None
        self._exposition = Exposition(self._source(multiprocess_dir), compat)
        self._describe_requests()
        self._describe_engines()
        self._describe_encoders()
        self._describe_upstreams()
        self._describe_workers()
        self._describe_keys()
        self._describe_batches()

    def render(self) -> bytes:
        """The exposition text; reads files in multiprocess mode, so call it off the loop."""
        return self._exposition.render()

    def restore(self) -> None:
        """Write values again whose file was removed; blocks on files."""
        if self._shared is not None:
            self._shared.restore()

    def _source(self, multiprocess_dir: Path | None) -> Collector:
        if self._shared is None or multiprocess_dir is None:
            return self._registry
        return WorkerFiles(multiprocess_dir, unpublished=self._shared.unpublished)

    def _gauge(
        self,
        name: str,
        text: str,
        labels: LabelNames = MODEL,
        mode: Literal["livesum", "livemax"] = "livesum",
    ) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _counter(self, name: str, text: str, labels: LabelNames = MODEL) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: LabelNames = MODEL
    ) -> Histogram:
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def _describe_requests(self) -> None:
        self.running = self._gauge("llmserve_num_requests_running", "Requests holding a slot.")
        self.waiting = self._gauge("llmserve_num_requests_waiting", "Requests waiting for a slot.")
        self.background_running = self._gauge(
            "llmserve_num_background_requests_running",
            "Background requests that run or are paused; no other series of requests that run, "
            "wait or take time has them.",
        )
        self.background_waiting = self._gauge(
            "llmserve_num_background_requests_waiting", "Background requests waiting to run."
        )
        self.displaced = self._counter(
            "llmserve_background_requests_displaced",
            "Background requests that were ended so that others could run, to be sent again.",
        )
        self.rejected = self._counter(
            "llmserve_requests_rejected", "Requests refused, by error code.", ("reason",)
        )
        self.finished = self._counter(
            "llmserve_request_success",
            "Requests that ended well, by finish reason.",
            ("model", "finished_reason"),
        )
        self.failed = self._counter(
            "llmserve_request_failure",
            "Requests that ended in an error event, by error code.",
            ("model", "reason"),
        )
        self.cancelled = self._counter(
            "llmserve_request_cancelled",
            "Requests that the client cancelled, or from which it disconnected.",
        )
        self.prompt_tokens = self._counter(
            "llmserve_prompt_tokens", "Tokens of prompts that were prefilled."
        )
        self.generation_tokens = self._counter("llmserve_generation_tokens", "Tokens generated.")
        self.wasted_tokens = self._counter(
            "llmserve_tokens_generated_after_disconnect",
            "Tokens generated after the request was cancelled or its client had disconnected.",
        )
        self.time_to_first_token = self._histogram(
            "llmserve_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            TTFT_BUCKETS,
        )
        self.inter_token_latency = self._histogram(
            "llmserve_inter_token_latency_seconds",
            "Between two tokens of a request, as the engine generates them.",
            ITL_BUCKETS,
        )
        self.e2e_latency = self._histogram(
            "llmserve_e2e_request_latency_seconds",
            "From the request's arrival to its end.",
            LATENCY_BUCKETS,
        )
        self.queue_time = self._histogram(
            "llmserve_request_queue_time_seconds", "Time waiting for a slot.", LATENCY_BUCKETS
        )
        self.prefill_time = self._histogram(
            "llmserve_request_prefill_time_seconds",
            "From the slot to the first token.",
            LATENCY_BUCKETS,
        )
        self.decode_time = self._histogram(
            "llmserve_request_decode_time_seconds",
            "From the first token to the last.",
            LATENCY_BUCKETS,
        )
        self.cancel_latency = self._histogram(
            "llmserve_cancel_latency_seconds",
            "From a cancel or disconnect to the slot being free.",
            CANCEL_BUCKETS,
        )
        self.loop_lag = self._histogram(
            "llmserve_event_loop_lag_seconds",
            "How late the event loop's timers fire.",
            LAG_BUCKETS,
            (),
        )
        self.http_requests = self._counter(
            "llmserve_http_requests",
            "HTTP requests answered, by method, route and status.",
            ("method", "route", "status"),
        )
        self.grpc_requests = self._counter(
            "llmserve_grpc_requests",
            "gRPC calls answered, by method and status.",
            ("method", "status"),
        )
        self.ignored_fields = self._counter(
            "llmserve_ignored_fields",
            "Unknown fields of requests that were ignored, by the object they were in.",
            ("place",),
        )

    def _describe_engines(self) -> None:
        self.kv_cache_usage = self._gauge(
            "llmserve_kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", mode="livemax"
        )
        self.prefix_cache_queries = self._counter(
            "llmserve_prefix_cache_queries", "Prompt tokens looked up in the prefix cache."
        )
        self.prefix_cache_hits = self._counter(
            "llmserve_prefix_cache_hits", "Prompt tokens found in the prefix cache."
        )
        self.preemptions = self._counter(
            "llmserve_num_preemptions", "Running requests whose KV cache blocks were taken back."
        )
        self.iteration_tokens = self._histogram(
            "llmserve_iteration_tokens_total", "Tokens per engine step.", STEP_BUCKETS
        )
        self.step_time = self._histogram(
            "llmserve_engine_step_seconds",
            "One step of an engine, all that belongs to it.",
            ITL_BUCKETS,
        )
        self.engine_waiting = self._gauge(
            "llmserve_engine_waiting",
            "Requests that hold a slot but are not scheduled in a step yet.",
        )
        self.blocks_used = self._gauge("llmserve_kv_blocks_used", "Blocks of the KV cache in use.")
        self.blocks_total = self._gauge("llmserve_kv_blocks", "Blocks of the KV cache in total.")
        self.states_used = self._gauge(
            "llmserve_recurrent_states_used", "Recurrent states of running requests."
        )
        self.states_total = self._gauge(
            "llmserve_recurrent_states",
            "Recurrent states that there are slots for, of running requests and checkpoints.",
        )
        self.checkpoints = self._gauge(
            "llmserve_state_checkpoints", "Recurrent states that are kept after prefixes."
        )
        self.checkpoint_hits = self._counter(
            "llmserve_state_checkpoint_hits", "Requests that began with a kept recurrent state."
        )
        self.model_loaded = self._gauge(
            "llmserve_model_loaded", "Workers in which the model is loaded."
        )
        self.model_memory = self._gauge(
            "llmserve_model_memory_bytes",
            "Memory of the model's weights, KV cache and pinned prefixes, all workers together.",
        )
        self.adapters_loaded = self._gauge(
            "llmserve_adapters_loaded", "Adapters of the model that are loaded, of all workers."
        )

    def _describe_encoders(self) -> None:
        self.encoding_latency = self._histogram(
            "llmserve_encoding_request_seconds",
            "From the arrival of a request to encode to its answer.",
            TTFT_BUCKETS,
        )
        self.encoding_inputs = self._counter(
            "llmserve_encoding_inputs", "Texts and pairs that were encoded."
        )
        self.encoding_tokens = self._counter(
            "llmserve_encoding_tokens", "Tokens of texts and pairs that were encoded."
        )
        self.encoding_padding = self._counter(
            "llmserve_encoding_padding_tokens", "Tokens of padding that were computed beside them."
        )
        self.encoding_batch_time = self._histogram(
            "llmserve_encoding_batch_seconds", "One batch of an encoder.", TTFT_BUCKETS
        )
        self.encoding_batch_fill = self._histogram(
            "llmserve_encoding_batch_fill",
            "Share of a batch's tokens that it had, 0 to 1.",
            FILL_BUCKETS,
        )

    def _describe_upstreams(self) -> None:
        self.upstream_up = self._gauge(
            "llmserve_upstream_up", "Workers from which the upstream gets requests.", UPSTREAM
        )
        self.upstream_open = self._gauge(
            "llmserve_upstream_breaker_open",
            "Workers whose circuit breaker keeps requests from the upstream.",
            UPSTREAM,
        )
        self.upstream_running = self._gauge(
            "llmserve_upstream_requests_running",
            "Requests that the upstream answers now.",
            UPSTREAM,
        )
        self.upstream_requests = self._counter(
            "llmserve_upstream_requests",
            "Requests sent to the upstream, by what came of it.",
            (*UPSTREAM, "outcome"),
        )
        self.upstream_retries = self._counter(
            "llmserve_upstream_retries",
            "Requests sent to the upstream after another one did not answer.",
            UPSTREAM,
        )
        self.upstream_first_token = self._histogram(
            "llmserve_upstream_first_token_seconds",
            "From sending a request to the first piece of the upstream's answer.",
            TTFT_BUCKETS,
            UPSTREAM,
        )

    def _describe_workers(self) -> None:
        self.worker_up = self._gauge("llmserve_worker_up", "1 for a worker that is alive.", WORKER)
        self.worker_connections = self._gauge(
            "llmserve_worker_connections", "Open connections of a worker.", WORKER
        )
        self.worker_running = self._gauge(
            "llmserve_worker_requests_running", "Requests holding a slot of a worker.", WORKER
        )
        self.worker_http_requests = self._counter(
            "llmserve_worker_http_requests", "HTTP requests answered by a worker.", WORKER
        )
        self.worker_restarts = self._counter(
            "llmserve_worker_restarts", "Workers that were replaced, by reason.", ("reason",)
        )

    def _describe_keys(self) -> None:
        self.key_requests = self._counter(
            "llmserve_key_requests", "Requests of a key that were admitted.", ("key",)
        )
        self.key_tokens = self._counter(
            "llmserve_key_tokens", "Tokens used with a key, prompt or completion.", ("key", "kind")
        )
        self.key_rejected = self._counter(
            "llmserve_key_rejected",
            "Requests of a key that were refused, by error code.",
            ("key", "reason"),
        )
        self.key_queue = Summary(
            "llmserve_key_queue_seconds",
            "Time waiting for a slot, by key.",
            ("key",),
            registry=self._registry,
        )

    def _describe_batches(self) -> None:
        self.batch_lines = self._counter(
            "llmserve_batch_lines",
            "Lines of batches that were run: completed, failed, or put off to be tried again.",
            ("outcome",),
        )
        self.open_batches = self._gauge(
            "llmserve_batches_open",
            "Batches and requests in the background that have not ended.",
            (),
            mode="livemax",
        )
        self.batch_lines_waiting = self._gauge(
            "llmserve_batch_lines_waiting",
            "Lines of open batches without a result.",
            (),
            mode="livemax",
        )
