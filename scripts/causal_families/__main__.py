"""Tries every family of causal language models that transformers has, and writes the table of the
engines' page. `scripts/families` calls it.

What is known already is not tried again (`--again` does), so an interrupted sweep goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from causal_families.ledger import Ledger
from causal_families.names import VARIANT, family_names
from causal_families.sweep import sweep
from causal_families.table import PAGE, write_table

OUT: Final = Path(".families.jsonl")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 if a served family is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/families", description=__doc__)
    parser.add_argument("--only", help="names of model types, separated by commas")
    parser.add_argument("--out", type=Path, default=OUT, help=f"what is known (default {OUT})")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"has the table (default {PAGE})")
    parser.add_argument("--again", action="store_true", help="try again what is known")
    parser.add_argument(
        "--variants", type=int, default=0, metavar="N", help="instead, N random configs of each"
    )
    parser.add_argument("--seconds", type=float, default=300, help="the most for one family")
    arguments = parser.parse_args(argv)
    known = family_names()
    wanted = arguments.only.split(",") if arguments.only else known
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"transformers has no causal language model called {', '.join(unknown)}")
    if arguments.variants:
        numbers = range(1, arguments.variants + 1)
        wanted = [f"{name}{VARIANT}{number}" for name in wanted for number in numbers]
    ledger = Ledger(arguments.out)
    left = [name for name in wanted if arguments.again or name not in ledger.outcomes]
    begun = time.monotonic()
    for outcome in sweep(left, arguments.seconds):
        ledger.add(outcome)
        print(
            f"{outcome.family:26} {outcome.engine:9} {outcome.equality:8} {outcome.why}", flush=True
        )
    print(f"{len(left)} families in {time.monotonic() - begun:.0f} s", flush=True)
    write_table(arguments.page, {k: v for k, v in ledger.outcomes.items() if k in known})
    wrong = [o for name in wanted if (o := ledger.outcomes[name]).is_wrong]
    for outcome in wrong:
        print(f"WRONG: {outcome.family}, served by {outcome.engine}: {outcome.equality}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
