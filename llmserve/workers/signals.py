"""The signals and exit codes by which supervisor and workers communicate."""

from __future__ import annotations

import signal
from typing import Final

RETIRE_SIGNAL: Final = signal.SIGUSR1
"""To a worker: another one takes over; finish your requests and leave."""

STARTUP_FAILURE: Final = 3
"""The exit code of a worker that cannot start at all: Uvicorn's own, not imported because that
takes time."""
