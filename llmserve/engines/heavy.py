"""The imports that take seconds: torch, transformers and the engines on top of them."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable
from typing import Final

from llmserve.domain import LoadProgress
from llmserve.machine.allowance import affinity, processors

MODULES: Final = (
    "torch",
    "transformers",
    "transformers.modeling_utils",
    "llmserve.engines.batching.engine",
    "llmserve.engines.threaded",
)


def import_engines(on_progress: Callable[[LoadProgress], None]) -> None:
    """Blocks for seconds the first time, so call it off the event loop; later it does nothing.

    `on_progress` may raise, between two modules.
    """
    if processors() < affinity():
        # OpenMP counts processors when torch is imported, and knows no quota.
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    was_enabled = gc.isenabled()
    gc.disable()  # modules are no garbage, and to look for it takes a sixth of the time
    try:
        for done, module in enumerate(MODULES):
            on_progress(LoadProgress("imports", done / len(MODULES)))
            importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()
