"""`scripts/bench`: measures limits, loop, server and peers in one run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from make_model import make_model
from transformers import AutoTokenizer

from llmserve.machine.allowance import processors
from llmserve.text.tokenizer import Tokenizer
from measure.speed import ceilings, host_parts, intrusion, loop_alone, servers
from measure.speed.ceilings import Ceilings
from measure.speed.limits import ModelShape, Workload
from measure.speed.processor_use import use_under_load
from measure.speed.report import LOOP, Results, as_markdown, draw
from measure.speed.step_profile import StepProfile

RESULTS = Path(__file__).with_name("results")
LENGTHS = ((128, 64), (32, 256))
CONCURRENCIES = (1, 8, 32)
TRIES = 3
MAX_RUNNING = 64
LEAST_CACHE_TOKENS = 16_384
SERIAL_TOKENS = 64
"""A server that answers one request after another is asked one, and no long one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _arguments(argv)
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {what}", file=sys.stderr, flush=True)

    works = [Workload(c, *lengths) for lengths in LENGTHS for c in arguments.concurrency]
    if arguments.quick:
        works = [Workload(2, 32, 8)]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = arguments.model or Path(scratch) / "model"
        if arguments.model is None:
            make_model(arguments.preset, folder)
        results = _measure(folder, works, arguments, say)
    print(as_markdown(results))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "speed.md").write_text(as_markdown(results), encoding="utf-8")
        draw(results, arguments.out / "speed.png")
        say(f"written to {arguments.out}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m", help="a random model of this shape")
    parser.add_argument("--model", type=Path, help="a model's folder, instead")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=CONCURRENCIES, metavar="N",
        help="requests at once (1 8 32)",
    )  # fmt: skip
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=URL",
        help="another OpenAI-compatible server with the same model (vLLM, llama.cpp)",
    )  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="leave transformers serve out")
    parser.add_argument("--quick", action="store_true", help="a smoke test, no figures to show")
    parser.add_argument("--out", type=Path, help="folder for speed.md and speed.png")
    arguments = parser.parse_args(argv)
    if arguments.out is None and not arguments.quick:
        arguments.out = RESULTS
    return arguments


def _measure(
    folder: Path,
    works: list[Workload],
    arguments: argparse.Namespace,
    say: Callable[[str], None],
) -> Results:
    threads = processors()
    results = Results(
        machine=f"{threads} cores, {_processor()}, torch {torch.__version__}",
        model=arguments.model.name if arguments.model else f"{arguments.preset}, random weights",
        shape=ModelShape.of(folder),
    )
    asyncio.run(_ours(folder, works, threads, results, say, is_quick=arguments.quick))
    peers = []
    if not (arguments.no_peers or arguments.quick):
        peers = [servers.transformers(folder, is_batching=on) for on in (True, False)]
    for server in peers:
        say(server.name)
        try:
            with servers.running(server) as it:
                _peer(it.url, server, works, results, tries=1)
        except servers.NotStarted as reason:
            results.missing[server.name] = str(reason)
    for peer in arguments.peer:
        name, _, url = peer.partition("=")
        say(name)
        server = servers.Server(name, (), "", "completions", token_ids=results.shape.usual_tokens)
        try:
            _peer(url, server, works, results, tries=TRIES)
        except servers.NotStarted as reason:
            results.missing[name] = str(reason)
    return results


async def _ours(
    folder: Path,
    works: list[Workload],
    threads: int,
    results: Results,
    say: Callable[[str], None],
    *,
    is_quick: bool,
) -> None:
    """The loop alone and the server in turn, and the ceilings between them: what a machine with
    neighbours gives changes from minute to minute, and all three are compared with each other."""
    size = MAX_RUNNING, _cache_tokens(works) * results.shape.kv_bytes
    token_ids = results.shape.usual_tokens
    say("starting the engine alone, and the server")
    profile = StepProfile()
    engine = await loop_alone.build(folder, *size, on_step=profile.add)
    server = servers.llmserve(folder, *size, token_ids)
    try:
        say(f"engine: {engine.info.why}")
        with contextlib.ExitStack() as stack:
            it: servers.Running | None = None
            try:
                it = stack.enter_context(servers.running(server))
            except servers.NotStarted as reason:
                results.missing[server.name] = str(reason)
            for work in works:
                say(str(work))
                found, alone, told = [], [], []
                for number in range(1 if is_quick else TRIES):
                    seed = _seed(work, works, number)
                    found.append(await _ceilings(threads))
                    alone.append(await loop_alone.tokens_per_second(engine, work, token_ids, seed))
                    if it is None:
                        continue
                    try:
                        told.append(
                            await asyncio.to_thread(servers.measure, it.url, server, work, seed)
                        )
                    except servers.NotStarted as reason:
                        results.missing[server.name] = str(reason)
                        it = None
                results.add_ceilings(work, found)
                results.add_speed(LOOP, work, alone)
                if told:
                    results.add_reports(server.name, work, told)
            say("where the time goes")
            seed = _seed(works[-1], works, TRIES)
            with profile.timed():
                await loop_alone.tokens_per_second(engine, works[-1], token_ids, seed)
            results.profiles[f"{works[-1]}, the loop alone"] = profile.as_markdown()
            host = host_parts.measure(Tokenizer(AutoTokenizer.from_pretrained(folder)))
            title = f"the host's part of decode, {host.rows} rows × {host.context:,} tokens"
            results.profiles[title] = host.as_markdown()
            if it is None:
                return
            use = await use_under_load(it.url, it.pid, works[-1])
            results.profiles[f"{works[-1]}, through HTTP"] = use.as_markdown()
            if not is_quick:
                results.intrusion = await intrusion.intrude(it.url)
                results.prefix = await intrusion.prefix_ttfts(it.url)
    finally:
        await engine.close()


async def _ceilings(threads: int) -> Ceilings:
    """On a thread that ends: a team of OpenMP threads left behind slows those of a step down."""
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, ceilings.measure, threads)


def _cache_tokens(works: Sequence[Workload]) -> int:
    """Room for twice the largest workload, and for long prompts beside streams."""
    largest = max(work.concurrency * (work.input_tokens + work.output_tokens) for work in works)
    return max(2 * largest, LEAST_CACHE_TOKENS)


def _seed(work: Workload, works: Sequence[Workload], number: int) -> int:
    """A number for each run: a prompt that came before would be in the prefix cache."""
    return works.index(work) * 100 + number


def _peer(
    url: str, server: servers.Server, works: list[Workload], results: Results, tries: int
) -> None:
    """One round of each workload a try: all requests at once, as with ours."""
    for work in works:
        if server.is_serial and (work.concurrency > 1 or work.output_tokens > SERIAL_TOKENS):
            continue
        seeds = [_seed(work, works, number) for number in range(tries)]
        reports = [servers.measure(url, server, work, seed) for seed in seeds]
        results.add_reports(server.name, work, reports)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    name = next((line for line in lines if line.startswith("model name")), ": unknown")
    return name.partition(":")[2].strip()


if __name__ == "__main__":
    sys.exit(main())
