#!/usr/bin/env python3
"""Writes dashboards/llmserve.json: the panels are listed here, uniform and readable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "llmserve.json"
WIDTH, HEIGHT = 8, 8
PER_ROW = 24 // WIDTH
PICKED = 'instance=~"$instance", model=~"$model"'
HERE = 'instance=~"$instance"'


@dataclass(frozen=True)
class Panel:
    """One graph: a title, its unit, and expressions with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def quantiles(series: str, labels: str = PICKED) -> tuple[tuple[str, str], ...]:
    """p50, p95 and p99 of a histogram."""
    rate = f"sum by (le) (rate(llmserve_{series}_bucket{{{labels}}}[$__rate_interval]))"
    return tuple(
        (f"histogram_quantile({q}, {rate})", f"p{round(100 * q)}") for q in (0.5, 0.95, 0.99)
    )


def rate(series: str, by: str, labels: str = PICKED) -> tuple[str, str]:
    """Per second, by some labels."""
    legend = " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(","))
    return f"sum by ({by}) (rate(llmserve_{series}{{{labels}}}[$__rate_interval]))", legend


def gauge(series: str, by: str, labels: str = PICKED) -> tuple[str, str]:
    """The sum of a gauge, by some labels."""
    legend = " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(","))
    return f"sum by ({by}) (llmserve_{series}{{{labels}}})", legend


def total(series: str, labels: str = PICKED) -> str:
    """Per second, of everything."""
    return f"sum(rate(llmserve_{series}{{{labels}}}[$__rate_interval]))"


def now(series: str) -> str:
    """The sum of a gauge."""
    return f"sum(llmserve_{series}{{{PICKED}}})"


def mean_by(series: str, by: str) -> str:
    """The mean of a summary, by a label."""
    parts = (
        f"sum by ({by}) (rate(llmserve_{series}_{part}{{{HERE}}}[$__rate_interval]))"
        for part in ("sum", "count")
    )
    return " / ".join(parts)


BY_UPSTREAM = (
    "sum by (le, upstream) "
    f"(rate(llmserve_upstream_first_token_seconds_bucket{{{PICKED}}}[$__rate_interval]))"
)

SECTIONS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel("Requests per second", "reqps", (
            rate("http_requests_total", "route, status", HERE),
            rate("grpc_requests_total", "method, status", HERE),)),
        Panel("Finished by reason", "reqps", (rate("request_success_total", "finished_reason"),)),
        Panel("Tokens per second", "short", (
            (total("prompt_tokens_total"), "prompt"),
            (total("generation_tokens_total"),
             "generation"),
        )),
    ),
    "Latency": (
        Panel("Request latency", "s", quantiles("e2e_request_latency_seconds")),
        Panel("Time to first token", "s", quantiles("time_to_first_token_seconds")),
        Panel("Inter-token latency", "s", quantiles("inter_token_latency_seconds")),
        Panel("Time in the queue", "s", quantiles("request_queue_time_seconds")),
        Panel("Prefill time", "s", quantiles("request_prefill_time_seconds")),
        Panel("Cancel latency", "s", quantiles("cancel_latency_seconds")),
    ),
    "Errors": (
        Panel("Errors by kind", "reqps", (rate("request_failure_total", "reason"),)),
        Panel("Rejected by reason", "reqps", (rate("requests_rejected_total", "reason", HERE),)),
        Panel("Cancelled requests and wasted tokens", "short", (
            (total("request_cancelled_total"),
             "cancelled requests"),
            (total("tokens_generated_after_disconnect_total"), "wasted tokens"),
        )),
    ),
    "Engine": (
        Panel("Running and waiting", "short", (
            (now("num_requests_running"), "running"),
            (now("num_requests_waiting"), "waiting"),
        )),
        Panel("Background work", "short", (
            (now("num_background_requests_running"), "running or paused"),
            (now("num_background_requests_waiting"), "waiting"),
            (total("background_requests_displaced_total"), "displaced per second"),
        )),
        Panel("KV cache", "percentunit", (
            (f"max by (model) (llmserve_kv_cache_usage_perc{{{PICKED}}})", "{{model}}"),
        )),
        Panel("KV blocks", "short", (
            (now("kv_blocks"), "all"),
            (now("kv_blocks_used"), "in use"),
            (now("engine_waiting"), "requests not scheduled in a step yet"),
        )),
        Panel("Recurrent states", "short", (
            (now("recurrent_states"), "all"),
            (now("recurrent_states_used"), "running"),
            (now("state_checkpoints"), "kept after prefixes"),
            (total("state_checkpoint_hits_total"), "begun with a kept one, per second"),
        )),
        Panel("Prefix cache hit ratio", "percentunit", (
            (f"{total('prefix_cache_hits_total')} / {total('prefix_cache_queries_total')}",
             "hits"),
        )),
        Panel("Engine steps and preemptions", "short", (
            (total("iteration_tokens_total_count"),
             "steps per second"),
            (total("num_preemptions_total"),
             "preemptions per second"),
        )),
        Panel("Step time", "s", quantiles("engine_step_seconds")),
        Panel("Tokens per step", "short", (
            (f"{total('iteration_tokens_total_sum')} / {total('iteration_tokens_total_count')}",
             "mean"),
        )),
        Panel("Models loaded", "short", (gauge("model_loaded", "model"),)),
        Panel("Adapters loaded", "short", (gauge("adapters_loaded", "model"),)),
        Panel("Memory of models", "bytes", (gauge("model_memory_bytes", "model"),)),
    ),
    "Encoders": (
        Panel("Inputs and tokens per second", "short", (
            (total("encoding_inputs_total"), "inputs"),
            (total("encoding_tokens_total"), "tokens"),
            (total("encoding_padding_tokens_total"), "tokens of padding"),
        )),
        Panel("Latency of requests to encode", "s", quantiles("encoding_request_seconds")),
        Panel("Batch time", "s", quantiles("encoding_batch_seconds")),
        Panel("Batches per second and their fill", "short", (
            (total("encoding_batch_fill_count"), "batches per second"),
            (f"{total('encoding_batch_fill_sum')} / {total('encoding_batch_fill_count')}",
             "mean fill, 0 to 1"),
        )),
    ),
    "Upstreams": (
        Panel("Requests per upstream", "reqps", (
            rate("upstream_requests_total", "upstream, outcome"),)),
        Panel("Running per upstream", "short", (
            gauge("upstream_requests_running", "upstream"),)),
        Panel("First token of upstreams", "s", (
            (f"histogram_quantile(0.95, {BY_UPSTREAM})", "p95 {{upstream}}"),
        )),
        Panel("Upstreams that get requests", "short", (
            gauge("upstream_up", "upstream"),
            (f"-sum by (upstream) (llmserve_upstream_breaker_open{{{PICKED}}})",
             "breaker open: {{upstream}}"),
        )),
        Panel("Retries per upstream", "reqps", (rate("upstream_retries_total", "upstream"),)),
    ),
    "Keys": (
        Panel("Requests per key", "reqps", (rate("key_requests_total", "key", HERE),)),
        Panel("Tokens per key", "short", (rate("key_tokens_total", "key, kind", HERE),)),
        Panel("Rejected per key", "reqps", (rate("key_rejected_total", "key, reason", HERE),)),
        Panel("Mean wait per key", "s", (
            (mean_by("key_queue_seconds", "key"), "{{key}}"),
        )),
    ),
    "Workers": (
        Panel("Requests per second per worker", "reqps", (
            rate("worker_http_requests_total", "instance, worker", HERE),)),
        Panel("Connections per worker", "short", (
            gauge("worker_connections", "instance, worker", HERE),)),
        Panel("Running per worker", "short", (
            gauge("worker_requests_running", "instance, worker", HERE),)),
        Panel("Workers alive", "short", (gauge("worker_up", "instance", HERE),)),
        Panel("Workers replaced in the last hour", "short", (
            (f"sum by (instance, reason) (increase(llmserve_worker_restarts_total{{{HERE}}}[1h]))",
             "{{instance}} {{reason}}"),
        )),
        Panel("Event-loop lag", "s", quantiles("event_loop_lag_seconds", HERE)),
    ),
    "Batches": (
        Panel("Lines by outcome", "reqps", (rate("batch_lines_total", "outcome", HERE),)),
        Panel("Lines that wait", "short", (
            (f"max (llmserve_batch_lines_waiting{{{HERE}}})", "lines"),
        )),
        Panel("Open batches", "short", (
            (f"max (llmserve_batches_open{{{HERE}}})", "batches"),
        )),
    ),
    "GPU": (
        Panel("GPU memory", "bytes", (
            gauge("gpu_memory_used_bytes", "instance, gpu", HERE),
            gauge("gpu_memory_total_bytes", "instance, gpu", HERE),
        )),
        Panel("GPU utilization", "percentunit", (
            gauge("gpu_utilization_ratio", "instance, gpu", HERE),)),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for section, graphs in SECTIONS.items():
        panels.append({"id": len(panels) + 1, "type": "row", "title": section,
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})  # fmt: skip
        y += 1
        for i, graph in enumerate(graphs):
            place = {"h": HEIGHT, "w": WIDTH, "x": WIDTH * (i % PER_ROW),
                     "y": y + HEIGHT * (i // PER_ROW)}  # fmt: skip
            panels.append(_graph(len(panels) + 1, graph, place))
        y += HEIGHT * -(-len(graphs) // PER_ROW)
    return {
        "uid": "llmserve",
        "title": "llmserve",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_variable("instance"), _variable("model")]},
        "panels": panels,
    }


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _variable(label: str) -> dict[str, Any]:
    series = "llmserve_num_requests_running" if label == "model" else "llmserve_worker_up"
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "query": f"label_values({series}, {label})",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def main() -> None:
    """Write the file."""
    TARGET.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
