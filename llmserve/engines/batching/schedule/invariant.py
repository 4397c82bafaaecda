"""What must hold between two steps, whatever was asked."""

from __future__ import annotations


class InvariantViolated(Exception):
    """The scheduler's data contradict each other, which is a bug; the message says how."""


def require(holds: bool, problem: str) -> None:
    """An `assert` that `python -O` leaves in place.

    Raises:
        InvariantViolated: it does not hold.
    """
    if not holds:
        raise InvariantViolated(problem)
