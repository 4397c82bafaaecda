"""llmserve under Gunicorn, from the project's root: gunicorn -c scripts/deploy/gunicorn.conf.py

Settings are llmserve's own (llmserve.toml, LLMSERVE_*): host, port, workers and the rest. Gunicorn
replaces dead workers, and on SIGHUP reads the settings again. What `llmserve serve` does beyond
that (hung engines, even spread, restarts without a gap, memory preflight) it does not.
"""

import os
from typing import Any

from llmserve.fleet.board import BOARD_VARIABLE, make_board
from llmserve.fleet.location import fresh_run_directory
from llmserve.fleet.run_directory import RunDirectory
from llmserve.fleet.socket_address import MAX_BYTES
from llmserve.settings import ENV_PREFIX, load_settings
from llmserve.workers.address_file import publish, withdraw

LEAVE_SECONDS = 30
"""Beyond the drain: farewell and shutdown."""

RUN_DIR = f"{ENV_PREFIX}RUN_DIR"
MAKER = "_LLMSERVE_RUN_DIR_MAKER"
"""Who made the run directory: this file is read again on SIGHUP, and after SIGUSR2 by another
master, which must not share the directory of one that leaves."""

if os.environ.get(MAKER, str(os.getpid())) != str(os.getpid()):
    for _name in (RUN_DIR, MAKER, BOARD_VARIABLE):
        os.environ.pop(_name, None)

# Only the run directory is exported: workers read the other settings where this file does.
_settings = load_settings().settings
if _settings.run_dir is None:
    _directory = fresh_run_directory(os.environ)
    os.environ[MAKER] = str(os.getpid())
    os.environ[RUN_DIR] = str(_directory.path)
else:
    _directory = RunDirectory(_settings.run_dir)
    _directory.keep()
if BOARD_VARIABLE not in os.environ:  # at start, not on SIGHUP
    _directory.remove_leftovers()
    # Workers inherit it, and so does a master that SIGUSR2 starts in the same directory.
    _board = make_board()
    os.set_inheritable(_board, True)
    os.environ[BOARD_VARIABLE] = str(_board)

_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host

wsgi_app = "llmserve.workers:create_app()"
worker_class = "llmserve.workers.gunicorn_worker.GunicornWorker"
bind = f"{_host}:{_settings.port}"
workers = _settings.workers
backlog = 2048
# A worker's heartbeat is its event loop: loading and generating happen in threads.
timeout = int(_settings.worker_timeout_seconds)
graceful_timeout = int(_settings.drain_timeout_seconds) + LEAVE_SECONDS
keepalive = _settings.idle_connection_seconds
accesslog = None
# Gunicorn's own place for it is one per user: a second instance would take it from the first.
control_socket = str(_directory.path / "gunicorn.ctl")
control_socket_disable = len(os.fsencode(control_socket)) > MAX_BYTES


def on_starting(server: Any) -> None:
    """`--workers` on the command line wins, and workers must know how many they are."""
    if server.cfg.workers != _settings.workers:
        os.environ[f"{ENV_PREFIX}WORKERS"] = str(server.cfg.workers)
    if control_socket_disable:
        server.log.warning("no control socket for gunicornc: %s is too long; set %s to a shorter "
                           "path", control_socket, RUN_DIR)  # fmt: skip


def when_ready(server: Any) -> None:
    """`--bind` on the command line wins: the address is that of the socket."""
    address = server.LISTENERS[0].sock.getsockname()
    if _settings.address_file is not None and isinstance(address, tuple):  # not a Unix socket
        server.llmserve_url = publish(_settings.address_file, *address[:2])


def on_exit(server: Any) -> None:
    """The run directory goes with the master that made it; one that was given stays."""
    if _settings.address_file is not None:
        withdraw(_settings.address_file, getattr(server, "llmserve_url", ""))
    if os.environ.get(MAKER) == str(os.getpid()):
        _directory.remove()
