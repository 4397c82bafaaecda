"""`scripts/simulate`: a log or made-up users over boxes with measured step costs."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from llmserve.domain import CallerLimits
from measure.simulation.accounting import LogError, read_log
from measure.simulation.box_limits import BoxLimits
from measure.simulation.cell import Cell, Run
from measure.simulation.profile import load_profiles
from measure.simulation.report import Row, as_json, as_markdown
from measure.simulation.request import Request
from measure.simulation.routing import ROUTINGS
from measure.simulation.sessions import Sessions

GRAINS = (1, 2, 4, 8, 16)
OF_LOGS = ("speed",)
OF_USERS = (
    "rate", "seconds", "bursty", "keys", "turns", "think_seconds", "system_prompts",
    "system_tokens", "message_tokens", "answer_tokens",
)  # fmt: skip
LEAST_SECONDS = 1.0
"""Of a log, so that figures per second have a meaning."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _arguments(argv)
    rows = []
    for boxes, rate in itertools.product(arguments.boxes, arguments.rate):
        try:
            requests, begin, end = _load(arguments, boxes, rate)
        except (LogError, OSError) as error:
            print(f"simulate: {error}", file=sys.stderr)
            return 1
        if arguments.log is not None:
            rate = len(requests) / end / boxes
        for routing in arguments.routing:
            started = time.monotonic()
            run = Run(_cell(arguments, boxes, routing), requests, begin, end, arguments.seed)
            rows.append(Row(boxes, rate, routing, run.figures()))
            spent = time.monotonic() - started
            print(
                f"{boxes} boxes, {rate:g} requests/s a box, {routing}: {run.tally.num_sent:,} "
                f"requests in {spent:.1f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    print(as_markdown(rows))
    if arguments.json is not None:
        report = {
            "profile": arguments.profile,
            "source": load_profiles()[arguments.profile].source,
            "seed": arguments.seed,
            "grain": arguments.grain,
            "runs": [as_json(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    add = parser.add_argument
    profiles = load_profiles()
    add("--profile", choices=profiles, default="llama-3.1-8b-h200", help="what a box costs")
    add("--boxes", type=_count, nargs="+", default=[8], metavar="N")
    add("--fronts", type=_count, default=1, metavar="N", help="each request comes to any of them")
    add("--front-by-key", action="store_true", help="those of a key always come to the same")
    add("--routing", choices=ROUTINGS, nargs="+", default=list(ROUTINGS), help="all of them")
    add("--seed", type=int, default=1)
    add("--grain", type=int, choices=GRAINS, default=1,
        help="tokens that are one: quicker; a first token comes so many steps late")  # fmt: skip
    add("--quick", action="store_true", help="a smoke test, no figures to show")
    add("--json", type=Path, metavar="FILE")
    load = parser.add_argument_group("the load").add_argument
    load("--log", type=Path, metavar="FILE", help="an accounting log, instead of made-up users")
    load("--speed", type=_positive, default=1.0, help="times the log's rate")
    load(
        "--rate",
        type=_positive,
        nargs="+",
        default=[8.0],
        metavar="R",
        help="requests per second and box",
    )
    load("--seconds", type=_positive, default=240.0, help="of which the first third is not counted")
    load("--bursty", action="store_true", help="gaps three times as uneven as Poisson's")
    load("--keys", type=_count, default=100)
    load("--turns", type=_positive, default=4.0, help="of a conversation, on average")
    load("--think-seconds", type=_positive, default=20.0, help="before the next turn, on average")
    load("--system-prompts", type=_count, default=16, help="the n-th is 1/n as popular")
    load("--system-tokens", type=_count, default=1024)
    load(
        "--message-tokens", type=_count, default=64, help="median; one in 100 has 10 times as many"
    )
    load(
        "--answer-tokens", type=_count, default=160, help="median; one in 100 has 10 times as many"
    )
    limits = parser.add_argument_group("limits").add_argument
    limits("--max-running", type=_count, help="of a box")
    limits("--max-waiting", type=_none_or_more, default=256, help="of a box")
    limits("--wait-timeout-seconds", type=_positive, default=60.0)
    limits("--requests-per-minute", type=_count, help="of a key, at each front")
    limits("--tokens-per-minute", type=_count, help="of a key, at each front")
    limits("--concurrency", type=_count, help="of a key, at each front")
    if parser.parse_args(argv).quick:
        parser.set_defaults(boxes=[2], rate=[4.0], seconds=15.0)
    arguments = parser.parse_args(argv)
    for name in OF_USERS if arguments.log is not None else OF_LOGS:
        if getattr(arguments, name) != parser.get_default(name):
            flag, other = f"--{name.replace('_', '-')}", "with" if arguments.log else "without"
            parser.error(f"{flag} has no meaning {other} --log")
    return arguments


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _none_or_more(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _positive(text: str) -> float:
    if not 0.0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _load(
    arguments: argparse.Namespace, boxes: int, rate: float
) -> tuple[list[Request], float, float]:
    """The requests, and when counting begins and ends."""
    if arguments.log is not None:
        requests = read_log(arguments.log, arguments.speed)
        return requests, 0.0, max(requests[-1].at, LEAST_SECONDS)
    sessions = Sessions(
        rate=rate * boxes,
        seconds=arguments.seconds,
        is_bursty=arguments.bursty,
        keys=arguments.keys,
        turns=arguments.turns,
        system_prompts=arguments.system_prompts,
        system_tokens=arguments.system_tokens,
        message_tokens=arguments.message_tokens,
        answer_tokens=arguments.answer_tokens,
        think_seconds=arguments.think_seconds,
    )
    return sessions.requests(arguments.seed), arguments.seconds / 3.0, arguments.seconds


def _cell(arguments: argparse.Namespace, boxes: int, routing: str) -> Cell:
    return Cell(
        load_profiles()[arguments.profile],
        boxes,
        arguments.fronts,
        arguments.front_by_key,
        routing,
        BoxLimits(arguments.max_running, arguments.max_waiting, arguments.wait_timeout_seconds),
        CallerLimits(
            arguments.requests_per_minute, arguments.tokens_per_minute, arguments.concurrency
        ),
        arguments.grain,
    )


if __name__ == "__main__":
    sys.exit(main())
