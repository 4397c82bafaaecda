"""llmserve under Gunicorn, from the project's root: gunicorn -c scripts/deploy/gunicorn.conf.py

Settings are llmserve's own (llmserve.toml, LLMSERVE_*): host, port, workers and the rest. Gunicorn
replaces dead workers, and on SIGHUP reads the settings again. What `llmserve serve` does beyond
that (hung engines, even spread, restarts without a gap, memory preflight) it does not.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from llmserve.settings import ENV_PREFIX, load_settings
from llmserve.workers.address import publish, withdraw

LEAVE_SECONDS = 30
"""Beyond the drain: farewell and shutdown."""

RUN_DIR = f"{ENV_PREFIX}RUN_DIR"
MAKER = "_LLMSERVE_RUN_DIR_MAKER"
"""Who made the run directory: this file is read again on SIGHUP, and after SIGUSR2 by another
master, which must not share the directory of one that leaves."""

if os.environ.get(MAKER, str(os.getpid())) != str(os.getpid()):
    for _name in (RUN_DIR, MAKER, "PROMETHEUS_MULTIPROC_DIR"):
        os.environ.pop(_name, None)

# Only the run directory is exported: workers read the other settings where this file does.
_settings = load_settings().settings
if _settings.run_dir is None:
    os.environ[MAKER] = str(os.getpid())
    os.environ[RUN_DIR] = tempfile.mkdtemp(prefix="llmserve-")
_run_dir = Path(_settings.run_dir or os.environ[RUN_DIR])

# Before prometheus_client is imported, in the master and so in every worker.
_metrics = _run_dir / "metrics"
if os.environ.get("PROMETHEUS_MULTIPROC_DIR") != str(_metrics):  # at start, not on SIGHUP
    shutil.rmtree(_metrics, ignore_errors=True)
    _metrics.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)

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
control_socket = str(_run_dir / "gunicorn.ctl")


def on_starting(server: Any) -> None:
    """`--workers` on the command line wins, and workers must know how many they are."""
    if server.cfg.workers != _settings.workers:
        os.environ[f"{ENV_PREFIX}WORKERS"] = str(server.cfg.workers)


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
        shutil.rmtree(_run_dir, ignore_errors=True)
