"""The imports that take seconds: torch, transformers and the engines on top of them."""

from __future__ import annotations

import gc
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final

from llmserve.domain import LoadProgress
from llmserve.machine.allowance import affinity, processors

LIBRARIES: Final = ("torch", "transformers", "transformers.modeling_utils")
MODULES: Final = (
    *LIBRARIES,
    "llmserve.engines.batching.engine",
    "llmserve.engines.threaded.engine",
)
TALKATIVE: Final = ("torchao", "torch.utils._pytree")
"""Loggers that warn whenever torchao is imported, which transformers does where it is installed: of
libraries for other machines, and of what torch will rename."""
ENCODING: Final = "llmserve.engines.encoding.engine"

SPINS: Final = "2000"
"""How often a thread of GCC's OpenMP spins before it sleeps; read when torch is imported.

The default spins for milliseconds. As soon as anything else runs on one of the cores, the threads
of a team then wait for the scheduler's time slices, and a token takes ten times as long.
"""


def import_engines(
    on_progress: Callable[[LoadProgress], None], modules: Sequence[str] | None = None
) -> None:
    """Import everything, or these modules; takes seconds the first time, so call it off the event
    loop.

    `on_progress` is called between two modules, and may raise.
    """
    if processors() < affinity():
        # OpenMP counts processors when torch is imported, and ignores quotas.
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    modules = MODULES if modules is None else modules
    was_enabled = gc.isenabled()
    gc.disable()  # imports leave little garbage; collecting takes a sixth of the time
    try:
        for done, module in enumerate(modules):
            on_progress(LoadProgress("imports", done / len(modules)))
            importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()
