"""The progress of a load, which a shutdown ends."""

from __future__ import annotations

from collections.abc import Callable

from llmserve.domain import LoadProgress
from llmserve.errors import ModelBroken

OnProgress = Callable[[LoadProgress], None]


def interruptible(
    on_progress: OnProgress, is_closing: Callable[[], bool], model: str
) -> OnProgress:
    """Reports the progress of loading, and ends it when the engine is closed.

    Raises, when it is called:
        ModelBroken: the engine is closing.
    """

    def report(progress: LoadProgress) -> None:
        if is_closing():
            raise ModelBroken(f"loading {model!r} was interrupted by a shutdown")
        on_progress(progress)

    return report
