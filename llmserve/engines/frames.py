"""What the frames of an error hold: a model's weights, a cache, activations. An error that is kept
keeps them."""

from __future__ import annotations

import traceback


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error, and of those that led to it, hold."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
