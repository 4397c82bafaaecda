"""Tokens of interactive streams without and with background work beside them, in turns.

    PYTHONPATH=scripts .venv/bin/python -m measure.background [--model FOLDER]

Straight into the engine, as `measure.speed.loop_alone` does it; gaps are those that the engine sees
between two tokens of a stream. Those of all rounds are taken together; rounds with and without
alternate, as others may use the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from make_model import make_model

from llmserve.bench.workload import FIRST_TOKEN_ID
from llmserve.domain import SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import TokenTask
from measure.speed.loop_alone import build

STREAMS: Final = (1, 4)
PROMPT_TOKENS: Final = 64
MAX_RUNNING: Final = 32
CACHE_BYTES: Final = 1 << 30
TOKEN_IDS: Final = 4000
"""Prompts are random tokens below this."""


@dataclass(slots=True)
class Seen:
    """Seconds between tokens of the interactive streams, and background tokens meanwhile."""

    gaps: list[float] = field(default_factory=list)
    background_tokens: int = 0
    seconds: float = 0.0

    @property
    def p99(self) -> float:
        """Of the gaps."""
        return sorted(self.gaps)[int(0.99 * len(self.gaps))]


class Jobs:
    """Makes jobs of an engine; every prompt is another one."""

    def __init__(self, engine: Generator) -> None:
        self._engine = engine
        self._numbers = random.Random(1)

    async def run(self, tokens: int, gaps: list[float], *, is_background: bool) -> Job:
        """One job, to its end; it is cancelled if this is."""
        prompt = tuple(
            self._numbers.randrange(FIRST_TOKEN_ID, TOKEN_IDS) for _ in range(PROMPT_TOKENS)
        )
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        task = TokenTask(
            request_id="measure",
            prompt_ids=prompt,
            sampling=sampling,
            max_tokens=tokens,
            is_background=is_background,
        )
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        job = Job(task, Mailbox(loop), on_done=done.set, on_interval=gaps.append)
        self._engine.start(job)
        try:
            await done.wait()
        except asyncio.CancelledError:
            job.cancel()
            await done.wait()
            raise
        return job


@contextlib.asynccontextmanager
async def background_work(jobs: Jobs, count: int) -> AsyncIterator[list[float]]:
    """So many background jobs all the time; their gaps count their tokens."""
    gaps: list[float] = []

    async def again() -> None:
        while True:
            await jobs.run(256, gaps, is_background=True)

    tasks = [asyncio.create_task(again()) for _ in range(count)]
    try:
        yield gaps
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def interactive(jobs: Jobs, streams: int, tokens: int, work: list[float], seen: Seen) -> None:
    """So many streams, and what they saw."""
    before, begun = len(work), time.perf_counter()
    await asyncio.gather(
        *(jobs.run(tokens, seen.gaps, is_background=False) for _ in range(streams))
    )
    seen.seconds += time.perf_counter() - begun
    seen.background_tokens += len(work) - before


async def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Print a table."""
    engine = await build(folder, MAX_RUNNING, CACHE_BYTES)
    jobs, count = Jobs(engine), arguments.background
    try:
        async with background_work(jobs, count) as gaps:
            await asyncio.sleep(arguments.alone_seconds)
            alone = len(gaps) / arguments.alone_seconds
        print(f"{count} background requests alone: {alone:.0f} tokens/s\n")
        print("| streams | ITL p50 | with | p99 | with | ratio | background tokens/s beside |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for streams in STREAMS:
            seen = {False: Seen(), True: Seen()}
            for number in range(2 * arguments.rounds + 2):
                is_beside = number % 2 == 1
                async with background_work(jobs, count if is_beside else 0) as gaps:
                    if is_beside:
                        await asyncio.sleep(1.0)  # all of them run
                    # The first round of each is for what has to be learned.
                    into = seen[is_beside] if number >= 2 else Seen()
                    await interactive(jobs, streams, arguments.tokens, gaps, into)
            print(_row(streams, seen[False], seen[True]), flush=True)
    finally:
        await engine.close()


def _row(streams: int, without: Seen, beside: Seen) -> str:
    medians = [statistics.median(seen.gaps) for seen in (without, beside)]
    figures = [f"{1e3 * seconds:.1f} ms" for seconds in (*medians, without.p99, beside.p99)]
    rate = beside.background_tokens / beside.seconds
    return f"| {streams} | {' | '.join(figures)} | {beside.p99 / without.p99:.2f} | {rate:.1f} |"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="measure.background", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m", help="a random model of this shape")
    parser.add_argument("--model", type=Path, help="a model's folder, instead")
    parser.add_argument("--background", type=int, default=16, help="requests (16)")
    parser.add_argument("--tokens", type=int, default=400, help="of each stream (400)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (5)")
    parser.add_argument("--alone-seconds", type=float, default=5.0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="background-") as scratch:
        folder = arguments.model or Path(scratch) / "model"
        if arguments.model is None:
            make_model(arguments.preset, folder)
        asyncio.run(measure(folder, arguments))


if __name__ == "__main__":
    main()
