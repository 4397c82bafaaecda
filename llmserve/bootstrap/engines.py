"""What every engine of this process is built with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmserve.bootstrap.fleet import workers_on
from llmserve.domain import AdapterSpec, LoadProgress, ModelSpec
from llmserve.engines.attempt_report import AttemptReport
from llmserve.engines.batch_report import BatchReport
from llmserve.engines.options import EngineOptions
from llmserve.engines.step_report import StepReport
from llmserve.engines.weights.footprint import footprint
from llmserve.observability.metrics import Metrics
from llmserve.operations.desired import DesiredModels
from llmserve.registry.neighbours import Neighbours
from llmserve.registry.registry import Registry
from llmserve.settings import Settings


def build_options(
    settings: Settings,
    device: str,
    metrics: Metrics,
    registry: Registry,
    desired: DesiredModels,
) -> EngineOptions:
    """From the settings; a worker has its part of the device, and each model its share of that."""
    share = 1.0 / workers_on(device, settings)
    neighbours = Neighbours(registry, _weight_bytes, settings.models_memory_bytes, share)

    def fetch(spec: ModelSpec, on_progress: Callable[[LoadProgress], None]) -> Path:
        return _fetch(spec, settings, on_progress)

    def measure_step(model: str, report: StepReport) -> None:
        metrics.step_time.labels(model).observe(report.seconds)
        metrics.iteration_tokens.labels(model).observe(report.tokens)

    def measure_batch(model: str, report: BatchReport) -> None:
        metrics.encoding_batch_time.labels(model).observe(report.seconds)
        metrics.encoding_batch_fill.labels(model).observe(report.fill)
        metrics.encoding_inputs.labels(model).inc(report.inputs)
        metrics.encoding_tokens.labels(model).inc(report.tokens)
        metrics.encoding_padding.labels(model).inc(report.padding)

    def measure_attempt(model: str, report: AttemptReport) -> None:
        metrics.upstream_requests.labels(model, report.url, report.outcome.value).inc()
        metrics.upstream_retries.labels(model, report.url).inc(report.is_retry)
        if report.first_token_seconds is not None:
            seconds = report.first_token_seconds
            metrics.upstream_first_token.labels(model, report.url).observe(seconds)

    return EngineOptions(
        fetch=fetch,
        max_running=settings.max_running,
        torch_threads=settings.torch_threads,
        kv_cache_bytes=settings.kv_cache_bytes,
        worker_share=share,
        memory_share=neighbours.share,
        max_tokens_per_step=settings.max_tokens_per_step,
        prefix_caching=settings.prefix_caching,
        max_adapters=settings.max_adapters,
        max_adapter_rank=settings.max_adapter_rank,
        torch_compile=settings.torch_compile,
        cpu_instructions=settings.cpu_instructions,
        cache_dir=settings.cache_dir,
        on_step=measure_step,
        on_batch=measure_batch,
        on_attempt=measure_attempt,
        is_drained=lambda model, url: (model, url) in desired.known.drained,
    )


def _fetch(
    spec: ModelSpec, settings: Settings, on_progress: Callable[[LoadProgress], None]
) -> Path:
    if spec.path is not None:
        return spec.path
    assert spec.hub_id is not None, "a spec has a path or a hub id"
    from llmserve.registry.hub import pull

    return pull(
        spec.hub_id,
        settings.models_dir,
        revision=spec.revision,
        gguf_file=spec.gguf_file,
        endpoint=settings.hf_endpoint,
        token=_hub_token(settings),
        progress=on_progress,
    )


def adapter_folder(spec: AdapterSpec, settings: Settings) -> Path:
    """An adapter's folder, downloaded if need be; blocks.

    Raises:
        ConfigurationError: as `pull_adapter`.
    """
    if spec.path is not None:
        return spec.path
    assert spec.hub_id is not None, "a spec has a path or a hub id"
    from llmserve.registry.hub import pull_adapter

    return pull_adapter(
        spec.hub_id,
        settings.models_dir,
        revision=spec.revision,
        endpoint=settings.hf_endpoint,
        token=_hub_token(settings),
    )


def _hub_token(settings: Settings) -> str | None:
    return settings.hf_token.get_secret_value() if settings.hf_token else None


def _weight_bytes(spec: ModelSpec) -> int:
    size = footprint(spec, None)
    return size.weights if size is not None else 0
