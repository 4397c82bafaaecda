"""Releases what an exception's frames refer to: a model's weights, a cache, activations. Whoever
keeps the exception would keep all of them."""

from __future__ import annotations

import traceback


def forget_frames(error: BaseException | None) -> None:
    """Clear the frames of an exception and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
