"""A program that measures one model whenever it is asked to: run on this checkout and on an older
one, whose `llmserve` and `measure` stand first in PYTHONPATH.

Arguments: the folder, requests at once, prompt tokens, answer tokens. Each line on stdin is a seed,
each line on stdout tokens per second.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from measure.speed.limits import Workload
from measure.speed.loop_alone import build, tokens_per_second

CACHE_BYTES = 2**28
TOKEN_IDS = 1500


async def _serve(folder: Path, work: Workload) -> None:
    engine = await build(folder, work.concurrency, CACHE_BYTES)
    try:
        print("ready", flush=True)
        while seed := await asyncio.to_thread(sys.stdin.readline):
            print(await tokens_per_second(engine, work, TOKEN_IDS, int(seed)), flush=True)
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Workload(*map(int, sys.argv[2:]))))
