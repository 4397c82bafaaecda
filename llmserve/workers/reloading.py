"""The protocol classes of Uvicorn's reloading child. Its options are pickled, so they name these,
which the child makes from the settings in its environment."""

from __future__ import annotations

from typing import Final

from llmserve.settings import load_settings
from llmserve.workers.app import server_options

_OPTIONS: Final = server_options(load_settings().settings)
HTTP: Final = _OPTIONS["http"]
WEBSOCKET: Final = _OPTIONS["ws"]
