"""What lives as long as the process is kept from the garbage collector.

torch, transformers and a model are hundreds of thousands of objects. A full collection that looks
at them again and again stops every stream for a third of a second.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def freeze_heap() -> None:
    """Collect what is garbage now; no later collection looks at the rest."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def thawed_heap() -> Iterator[None]:
    """For letting go of a model: the cycles that it leaves behind are found in here."""
    gc.unfreeze()
    try:
        yield
    finally:
        gc.freeze()
