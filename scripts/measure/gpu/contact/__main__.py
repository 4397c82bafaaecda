"""`scripts/gpu-first-contact`: every step, whatever became of the others, and one table last."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure.gpu.contact.step import Outcome, Step, Verdict, run
from measure.gpu.contact.steps import all_steps

CORES_EACH = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 all is well, 1 something is not, 2 there is no GPU."""
    steps = all_steps()
    parser = argparse.ArgumentParser(
        prog="gpu-first-contact",
        description="Tries everything of ours that needs a CUDA device, and measures it.",
    )
    parser.add_argument("--out", type=Path, default=Path("gpu-first-contact"), help="for the logs")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all steps together")
    parser.add_argument(
        "steps", nargs="*", metavar="STEP", help=f"only these: {', '.join(s.name for s in steps)}"
    )
    args = parser.parse_args(argv)
    unknown = set(args.steps) - {step.name for step in steps}
    if unknown:
        parser.error(f"there is no step {', '.join(sorted(unknown))}")
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = [step for step in steps if not args.steps or step.name in args.steps]
    outcomes = contact(wanted, args.out, time.monotonic() + args.seconds)
    table = "\n".join(rows(outcomes))
    (args.out / "table.md").write_text(table + "\n", "utf-8")
    print(f"\n{table}")
    if has_no_device(outcomes):
        return 2
    return 0 if all(outcome.verdict is Verdict.OK for outcome in outcomes) else 1


def contact(steps: Sequence[Step], folder: Path, deadline: float) -> list[Outcome]:
    """Those that need the device for themselves one by one, the others side by side. Where the
    machine has no device that works, nothing else is tried."""
    outcomes: list[Outcome] = []
    left = list(steps)
    while left:
        together = 0
        while together < len(left) and not left[together].is_alone:
            together += 1
        batch, left = left[: max(1, together)], left[max(1, together) :]
        outcomes += _side_by_side(batch, folder, deadline)
        if has_no_device(outcomes):
            return outcomes + [Outcome.not_run(step, "no device works here") for step in left]
    return outcomes


def has_no_device(outcomes: Sequence[Outcome]) -> bool:
    """Whether the first step said so."""
    first = outcomes[0]
    return first.step.name == "machine" and first.verdict is not Verdict.OK


def _side_by_side(steps: Sequence[Step], folder: Path, deadline: float) -> list[Outcome]:
    def one(step: Step) -> Outcome:
        outcome = run(step, folder, deadline - time.monotonic())
        print(f"{step.name}: {outcome.verdict}, {outcome.seconds:.0f} s", flush=True)
        return outcome

    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max(1, min(len(steps), cores // CORES_EACH))) as pool:
        return list(pool.map(one, steps))


def rows(outcomes: Sequence[Outcome]) -> list[str]:
    """A Markdown table: a line for each finding."""
    lines = ["| step | verdict | seconds | finding |", "| --- | --- | ---: | --- |"]
    for outcome in outcomes:
        first, *more = outcome.findings or ("",)
        lines.append(
            f"| {outcome.step.name} | {outcome.verdict} | {outcome.seconds:.0f} | {_cell(first)} |"
        )
        lines += [f"| | | | {_cell(finding)} |" for finding in more]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "/")[:240]


if __name__ == "__main__":
    sys.exit(main())
