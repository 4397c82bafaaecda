"""`scripts/bench-headline`: measures the headline, writes table, figures and picture."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from measure.headline.measurement import RoadBypassed, measure
from measure.headline.plan import FULL, QUICK
from measure.headline.plot import draw
from measure.headline.report import as_json, as_markdown, verdict
from measure.headline.server import StartFailed

RESULTS: Final = Path(__file__).with_name("results")
QUIET: Final = 0.1
"""Share of the cores that others may take before figures are about them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 the claim holds (or none was made), 1 it does not, 2 no figures."""
    parser = argparse.ArgumentParser(
        prog="bench-headline",
        description="200 requests/s with a 500 ms model: 16 synchronous Flask/Gunicorn workers "
        "against 4 workers of llmserve, and both with the demo model at a rate that both can take.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: seconds, small loads, no verdict"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for headline.md, .json and .png (default: scripts/measure/headline/results; "
        "a quick run only prints)",
    )
    args = parser.parse_args(argv)
    out = args.out or (None if args.quick else RESULTS)
    # As Ctrl-C does: the servers are stopped before this process leaves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {what}", file=sys.stderr, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="headline-") as scratch:
            run = measure(QUICK if args.quick else FULL, Path(scratch), say)
    except (StartFailed, RoadBypassed) as error:
        print(f"bench-headline: {error}", file=sys.stderr)
        return 2
    say("measured")
    if run.others_cpu_share > QUIET:
        say("others used the cores, too: for figures to show, repeat this on a quiet machine")
    print(as_markdown(run))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "headline.md").write_text(as_markdown(run), encoding="utf-8")
        (out / "headline.json").write_text(as_json(run), encoding="utf-8")
        draw(run, out / "headline.png")
    judged = verdict(run)
    return 0 if judged is None or judged.holds else 1


if __name__ == "__main__":
    sys.exit(main())
