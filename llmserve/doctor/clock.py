"""Do this machine and the server agree on the time?"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from llmserve.doctor.finding import Finding, Verdict

NAME: Final = "clock"
MOST_SECONDS: Final = 5.0
RESOLUTION_SECONDS: Final = 1.0
"""A Date header has whole seconds, rounded down."""


def judge_clock(date: str | None, clock: float) -> Finding:
    """Compare a Date header with this machine's clock, in seconds since 1970."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp() + RESOLUTION_SECONDS / 2
    except ValueError:
        return Finding(NAME, Verdict.SKIPPED, "answers carry no Date header")
    skew = theirs - clock
    figures = {"skew_seconds": round(skew, 1)}
    if abs(skew) <= MOST_SECONDS:
        seen = "agrees with this machine's within a second or so"
        if abs(skew) > 2 * RESOLUTION_SECONDS:
            seen = f"{abs(skew):.0f} s from this machine's"
        return Finding(NAME, Verdict.OK, seen, figures=figures)
    return Finding(
        NAME,
        Verdict.WARNING,
        f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's",
        (
            (
                "run chrony or systemd-timesyncd on both: keys expire, certificates begin and logs "
                "are compared by the clock"
            ),
        ),
        figures,
    )
