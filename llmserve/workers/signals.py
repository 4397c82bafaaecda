"""What supervisor and workers say to each other with signals and exit codes."""

from __future__ import annotations

import signal
from typing import Final

RETIRE_SIGNAL: Final = signal.SIGUSR1
"""To a worker: another one takes over; finish what you have and leave."""

STARTUP_FAILURE: Final = 3
"""The exit code by which a worker says that it cannot start at all; Uvicorn's, which the
supervisor does not import."""
