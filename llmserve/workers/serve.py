"""`llmserve serve`: opens the port and runs the supervisor over the workers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.address import authority
from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.fleet.membership import METRICS, METRICS_VARIABLE, SOCKETS, open_board
from llmserve.machine.process_age import process_age
from llmserve.observability.logs import configure_logging
from llmserve.observability.stages import Stages
from llmserve.settings import Settings, to_environment
from llmserve.workers.address import published
from llmserve.workers.preflight import check_memory, is_on_gpu, measure_memory, worker_bytes

BACKLOG: Final = 2048
MAX_RUN_DIR: Final = 80
"""Characters: the address of a Unix socket has room for 108."""


def serve(
    settings: Settings,
    specs: Sequence[ModelSpec],
    *,
    read_settings: Callable[[], Settings] | None = None,
) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code.

    `read_settings` reads them again, for a rolling restart; without it they stay.

    Raises:
        ConfigurationError: the port is taken, or the models do not fit the memory.
    """
    stages = Stages("imports and settings", begun_at=time.monotonic() - process_age())
    configure_logging(settings.log_format, settings.log_level)
    if settings.memory_preflight:
        stages.enter("memory preflight")
        check_memory(settings, specs)
    if settings.reload:
        with published(settings.address_file, settings.host, settings.port):
            _serve_with_reload(settings)
        return 0
    with (
        _listener(settings) as listener,
        _run_directory(settings.run_dir) as run_dir,
        published(settings.address_file, settings.host, port := listener.getsockname()[1]),
    ):
        pinned = settings.model_copy(update={"run_dir": run_dir, "port": port})
        stages.enter("supervisor")
        os.environ[METRICS_VARIABLE] = str(run_dir / METRICS)
        # prometheus_client decides at import whether it shares its values: after this line.
        from llmserve.observability.metrics import Metrics
        from llmserve.workers.supervisor import Supervisor

        logger.info("llmserve serves {} on http://{}", ", ".join(settings.models),
                    authority(settings.host, pinned.port))  # fmt: skip
        supervisor = Supervisor(
            pinned,
            listener,
            open_board(run_dir, settings.workers),
            Metrics(run_dir / METRICS),
            may_overlap=lambda: _has_room_for_one_more(settings, specs),
            read_settings=lambda: _same_place(read_settings() if read_settings else pinned, pinned),
        )
        logger.info("the port is open {:.2f} s after the start: {}", stages.total_seconds, stages)
        return supervisor.run()


def _same_place(fresh: Settings, pinned: Settings) -> Settings:
    """What a rolling restart cannot change stays as it is."""
    fixed = ("host", "port", "workers", "run_dir", "reload", "address_file")
    return fresh.model_copy(update={name: getattr(pinned, name) for name in fixed})


def _has_room_for_one_more(settings: Settings, specs: Sequence[ModelSpec]) -> bool:
    memory = measure_memory()
    if is_on_gpu(settings, memory) or memory.host is None:
        return False
    return worker_bytes(settings, specs) < memory.host


@contextlib.contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    is_ipv6 = ":" in settings.host
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            backlog=BACKLOG,
            # `::` is everybody, those with IPv4 too.
            dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {authority(settings.host, settings.port)}: {error.strerror}; "
            "choose another `host` or `port`"
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _run_directory(asked_for: Path | None) -> Iterator[Path]:
    """Where the workers meet: a fresh directory, or the one asked for with its leftovers gone."""
    if asked_for is None:
        with tempfile.TemporaryDirectory(prefix="llmserve-") as name:
            (Path(name) / METRICS).mkdir()
            yield Path(name)
        return
    run_dir = asked_for.absolute()
    if len(str(run_dir)) > MAX_RUN_DIR:
        raise ConfigurationError(f"run_dir {run_dir} is too long for Unix sockets; shorten it")
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (run_dir / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another llmserve runs in {run_dir}; give this one a run_dir of its own"
            ) from None
        for leftover in (METRICS, SOCKETS):
            shutil.rmtree(run_dir / leftover, ignore_errors=True)
        (run_dir / "board").unlink(missing_ok=True)
        (run_dir / METRICS).mkdir()
        yield run_dir


def _serve_with_reload(settings: Settings) -> None:
    """For development: Uvicorn restarts its one worker whenever the code changes."""
    import uvicorn

    from llmserve.workers.app import server_options

    os.environ |= to_environment(settings)
    uvicorn.run(
        "llmserve.workers:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        reload=True,
        backlog=BACKLOG,
        **server_options(settings)
        | {
            "http": "llmserve.workers.reloading:HTTP",
            "ws": "llmserve.workers.reloading:WEBSOCKET",
        },
    )
