"""llmserve under Gunicorn, from the project's root: gunicorn -c scripts/deploy/gunicorn.conf.py

Settings are llmserve's own (llmserve.toml, LLMSERVE_*): host, port, workers and the rest. Gunicorn
replaces dead workers and restarts them on SIGHUP; what `llmserve serve` does beyond that (hung
engines, even spread, restarts without a gap, memory preflight) it does not.
"""

import os
import shutil
import tempfile
from pathlib import Path

from llmserve.settings import load_settings, to_environment

LEAVE_SECONDS = 30
"""Beyond the drain: farewell and shutdown."""

_settings = load_settings().settings
_run_dir = os.environ.get("LLMSERVE_RUN_DIR") or tempfile.mkdtemp(prefix="llmserve-")
_owner = os.getpid()
# Before prometheus_client is imported, in the master and so in every worker.
os.environ |= to_environment(_settings.model_copy(update={"run_dir": Path(_run_dir)}))
_metrics = Path(_run_dir, "metrics")
if os.environ.get("PROMETHEUS_MULTIPROC_DIR") != str(_metrics):  # at start, not on SIGHUP
    shutil.rmtree(_metrics, ignore_errors=True)
    _metrics.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)

wsgi_app = "llmserve.workers:create_app()"
worker_class = "llmserve.workers.gunicorn_worker.GunicornWorker"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
backlog = 2048
# A worker's heartbeat is its event loop: loading and generating happen in threads.
timeout = int(_settings.worker_timeout_seconds)
graceful_timeout = int(_settings.drain_timeout_seconds) + LEAVE_SECONDS
keepalive = _settings.idle_connection_seconds
accesslog = None


def on_exit(server: object) -> None:
    """The run directory goes with the master that made it."""
    if os.getpid() == _owner:
        shutil.rmtree(_run_dir, ignore_errors=True)
