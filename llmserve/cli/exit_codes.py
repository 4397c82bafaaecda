"""Exit codes of commands, beside 0."""

from __future__ import annotations

from typing import Final

SERVER_FAILED: Final = 1
"""The server cannot be reached, is not healthy, or did not do what was asked."""

WRONG_USE: Final = 2
"""The command line or the settings are wrong; also that of typer."""
