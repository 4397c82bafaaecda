"""A thread with room for deep recursion: llguidance follows references by calling itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

STACK_BYTES: Final = 2**28
"""Reserved, and taken only as far as it is used."""

_LOCK: Final = threading.Lock()
T = TypeVar("T")


def on_deep_stack(work: Callable[[], T]) -> T:
    """Do it on a thread of its own, and wait. The default stack would end the process."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        # Raised again below, on the thread that waits.
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="generate-compile")
    with _LOCK:  # the size is a setting of the process
        before = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
