"""What supervisor and workers say to each other with signals."""

from __future__ import annotations

import signal
from typing import Final

RETIRE_SIGNAL: Final = signal.SIGUSR1
"""To a worker: another one takes over; finish what you have and leave."""
