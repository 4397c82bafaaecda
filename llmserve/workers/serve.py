"""`llmserve serve`: opens the port and runs the supervisor over the workers."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from loguru import logger

from llmserve.address import authority
from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError
from llmserve.fleet.board import make_board
from llmserve.fleet.location import fresh_run_directory
from llmserve.fleet.membership import open_board
from llmserve.fleet.run_directory import METRICS, SOCKETS, RunDirectory
from llmserve.fleet.socket_address import has_address
from llmserve.fleet.upkeep import Upkeep
from llmserve.observability.logs import configure_logging
from llmserve.observability.metrics import Metrics
from llmserve.observability.stages import Stages
from llmserve.settings import Settings, to_environment
from llmserve.workers.address_file import published
from llmserve.workers.grpc_port import reserved_port
from llmserve.workers.preflight import check_memory, is_on_gpu, measure_memory, worker_bytes
from llmserve.workers.process import WorkerProcess
from llmserve.workers.rolling_restart import RestartPolicy
from llmserve.workers.supervisor import Supervisor

BACKLOG: Final = 2048
LONGEST_SOCKET: Final = "4194304.sock"
"""The longest name of a control socket: it is named after a process id."""


def serve(
    settings: Settings,
    specs: Sequence[ModelSpec],
    *,
    on_demand: Sequence[ModelSpec] = (),
    read_settings: Callable[[], Settings] | None = None,
    started_at: float | None = None,
) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code.

    `started_at` is when the program began, by the monotonic clock; `None` means now.
    `read_settings` reads the settings again for a rolling restart; without it they stay the same.

    Raises:
        ConfigurationError: a port is taken, the models do not fit in memory, or there can be no
            run directory.
    """
    stages = Stages("imports and settings", begun_at=started_at or time.monotonic())
    configure_logging(settings.log_format, settings.log_level)
    if settings.memory_preflight:
        stages.enter("memory preflight")
        check_memory(settings, specs, on_demand=on_demand)
    if settings.reload:
        with published(settings.address_file, settings.host, settings.port):
            _serve_with_reload(settings)
        return 0
    with (
        _listener(settings) as listener,
        reserved_port(settings) as grpc_port,
        _run_directory(settings.run_dir) as directory,
        published(settings.address_file, settings.host, port := listener.getsockname()[1]),
    ):
        ports = {"port": port, "grpc_port": grpc_port}
        pinned = settings.model_copy(update={"run_dir": directory.path, **ports})
        stages.enter("supervisor")
        models = ", ".join(settings.models or settings.models_on_demand)
        logger.info("llmserve serves {} on http://{} with the run directory {}",
                    models, authority(settings.host, pinned.port), directory.path)  # fmt: skip
        metrics, board = Metrics(directory.held_path / METRICS), make_board()
        supervisor = Supervisor(
            pinned,
            open_board(board, settings.workers),
            metrics,
            launch=partial(WorkerProcess, listener.fileno(), board=board),
            restarts=RestartPolicy(
                may_overlap=lambda: _has_room_for_one_more(settings, specs),
                read_settings=lambda: _with_fixed(
                    read_settings() if read_settings else pinned, pinned
                ),
            ),
            upkeep=Upkeep(directory, metrics.restore).look,
        )
        logger.info("the port is open {:.2f} s after the start: {}", stages.total_seconds, stages)
        url = f"http://{authority(settings.host, pinned.port)}"
        return supervisor.run(partial(_tell_up, url, stages))


def _tell_up(url: str, stages: Stages, is_well: bool) -> None:
    if is_well:
        logger.info("ready on {} after {:.1f} s", url, stages.total_seconds)
    else:
        logger.warning("{} is up after {:.1f} s, but a model could not be loaded; {}/v1/models "
                       "says which and why", url, stages.total_seconds, url)  # fmt: skip


def _with_fixed(fresh: Settings, pinned: Settings) -> Settings:
    """The fresh settings, with those that a rolling restart cannot change as they were."""
    fixed = ("host", "port", "grpc_port", "workers", "run_dir", "reload", "address_file")
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
            # `::` is for everyone, IPv4 included.
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
def _run_directory(asked_for: Path | None) -> Iterator[RunDirectory]:
    """The workers' shared directory: a fresh one, or the one asked for, cleared of leftovers."""
    if asked_for is None:
        directory = fresh_run_directory(os.environ)
        release = directory.remove
    else:
        directory = RunDirectory(asked_for)
        release = directory.close
        _take(directory)
    try:
        if not has_address(directory.held_path / SOCKETS / LONGEST_SOCKET):
            raise ConfigurationError(
                f"the path of the run directory {directory.path} is too long for Unix sockets; "
                "set `run_dir` to a shorter one"
            )
        yield directory
    finally:
        release()


def _take(directory: RunDirectory) -> None:
    try:
        directory.keep()
        directory.own()
        directory.remove_leftovers()
        directory.keep()
    except OSError as error:
        raise ConfigurationError(
            f"run_dir {directory.path} cannot be used: {error}; choose another one"
        ) from error


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
