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
    "llmserve.engines.threaded.engine",
)

SPINS: Final = "2000"
"""How often GCC's OpenMP looks for work before a thread sleeps; it is read when torch is imported.

Its own default spins for milliseconds. As soon as anything else wants one of the cores, the threads
of a team then wait for each other by turns of the scheduler, and a token takes ten times as long.
"""


def import_engines(on_progress: Callable[[LoadProgress], None]) -> None:
    """Blocks for seconds the first time, so call it off the event loop; later it does nothing.

    `on_progress` may raise, between two modules.
    """
    if processors() < affinity():
        # OpenMP counts processors when torch is imported, and knows no quota.
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    was_enabled = gc.isenabled()
    gc.disable()  # modules are no garbage, and to look for it takes a sixth of the time
    try:
        for done, module in enumerate(MODULES):
            on_progress(LoadProgress("imports", done / len(MODULES)))
            importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()
