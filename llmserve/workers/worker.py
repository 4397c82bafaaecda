"""A worker process: one Uvicorn server on the socket that the supervisor opened.

    python -m llmserve.workers.worker LISTENER LIFELINE BOARD

All three are inherited file descriptors. The lifeline is a pipe whose other end the supervisor
holds: when it closes, the supervisor is dead, and the worker drains and exits.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Final

import uvicorn
from loguru import logger

from llmserve.machine.process_age import process_age
from llmserve.observability.stages import Stages
from llmserve.settings import load_settings
from llmserve.workers.app import create_app, server_options
from llmserve.workers.server import WorkerServer

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may hold the GIL while another waits: a tenth of Python's default. A request
takes the GIL some hundred times, and would wait for seconds while another thread computes, as a
chat template with a loop does."""


def main(listener: int, lifeline: int, board: int) -> None:
    """Serve until told to leave."""
    stages = Stages("imports", begun_at=time.monotonic() - process_age())
    sys.setswitchinterval(SWITCH_SECONDS)
    faulthandler.enable()  # the supervisor sends SIGABRT to a hung worker: its stacks are logged
    for sig in (signal.SIGTERM, signal.SIGINT):
        # Until Uvicorn handles the signal, and when it raises the signal again after its shutdown.
        signal.signal(sig, _exit_quietly)
    stages.enter("settings")
    settings = load_settings().settings
    stages.enter("application")
    app = create_app(board)
    config = uvicorn.Config(app, **server_options(settings))
    threading.Thread(target=_watch_lifeline, args=(lifeline,), daemon=True, name="lifeline").start()
    shared = socket.socket(fileno=listener)
    WorkerServer(config, app, settings, stages).run([shared])


def _watch_lifeline(lifeline: int) -> None:
    os.read(lifeline, 1)
    logger.error("the supervisor has died: this worker drains and exits")
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_quietly(sig: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
