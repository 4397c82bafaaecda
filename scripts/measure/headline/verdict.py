"""Does the claim hold? llmserve without an error, and its P99 at least 60 % lower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from measure.headline.outcome import Summary

GOAL: Final = 0.6


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reduction` is the share of Flask's P99 that llmserve's does not have."""

    num_errors: int
    reduction: float

    @property
    def holds(self) -> bool:
        """Both halves of the claim."""
        return self.num_errors == 0 and self.reduction >= GOAL

    def __str__(self) -> str:
        return (
            f"{'holds' if self.holds else 'DOES NOT HOLD'}: llmserve had "
            f"{self.num_errors or 'no'} error{'s' if self.num_errors > 1 else ''} and a P99 "
            f"{self.reduction:.1%} lower than that of Flask's answered requests"
        )


def judge(llmserve: Summary, flask: Summary, timeout_seconds: float) -> Verdict:
    """Compare the two, in Flask's favour.

    All of llmserve's requests count, but of Flask's only those that were answered; with none,
    its P99 is the client's patience.
    """
    theirs = min(flask.p99_answered, timeout_seconds)
    ours = min(llmserve.p99, timeout_seconds)
    return Verdict(sum(llmserve.errors.values()), 1 - ours / theirs)
