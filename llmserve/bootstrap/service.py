"""What requests meet: keys, limits, the service, and who records them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from loguru import logger

from llmserve.admission.key_file import KeyFile
from llmserve.admission.key_record import KeyRecord
from llmserve.admission.keys import KeyRing
from llmserve.admission.limits import Limiter
from llmserve.fleet.run_directory import METRICS, RunDirectory
from llmserve.observability.accounting import AccountingLog
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import Tracer
from llmserve.registry.loader import Loader
from llmserve.registry.references import complaints
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.settings import Settings


def build_metrics(settings: Settings, directory: RunDirectory | None) -> Metrics:
    """The process's series; they exist before the event loop does."""
    return Metrics(
        directory.held_path / METRICS if directory is not None else None,
        compat=settings.metrics_compat,
    )


def build_recorder(
    settings: Settings, metrics: Metrics, tracer: Tracer, stack: contextlib.AsyncExitStack
) -> Recorder:
    """Who learns of requests."""
    log = None
    if settings.accounting_log is not None:
        log = AccountingLog(
            settings.accounting_log, settings.accounting_max_bytes, settings.accounting_keep
        )
        stack.callback(log.close)
    return Recorder(
        metrics, log=log, tracer=tracer, slow_request_seconds=settings.slow_request_seconds
    )


def build_service(
    settings: Settings, registry: Registry, loader: Loader, recorder: Recorder, limiter: Limiter
) -> Service:
    """Every transport's one door to the engines."""
    limits = Limits(
        max_waiting=settings.max_waiting,
        wait_timeout_seconds=settings.wait_timeout_seconds,
        request_timeout_seconds=settings.request_timeout_seconds,
        max_background_running=settings.max_background_running,
        max_background_waiting=settings.max_background_waiting,
        background_timeout_seconds=settings.background_timeout_seconds,
    )
    return Service(registry, loader, limits, recorder, limiter=limiter)


def build_keys(settings: Settings, registry: Registry) -> KeyRing:
    """Keys of the settings and of the key file; what the file says of models that are not served
    is logged.

    Raises:
        ConfigurationError: the key file cannot be read.
    """

    def warn_of_unserved(records: Sequence[KeyRecord]) -> None:
        served = {name for found in registry.everything for name in found.names}
        for complaint in complaints(records, served, time.time()):
            logger.warning("key file {}: {}", settings.keys_file, complaint)

    return KeyRing(
        (key.get_secret_value() for key in settings.api_keys),
        (key.get_secret_value() for key in settings.admin_keys),
        KeyFile(settings.keys_file) if settings.keys_file is not None else None,
        on_read=warn_of_unserved,
    )
