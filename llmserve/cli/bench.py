"""`llmserve bench`: measures a running server."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmserve.bench.workload import FIRST_TOKEN_ID, Workload
from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.server_url import DEFAULT_URL

if TYPE_CHECKING:
    from llmserve.bench.load import Amount, Collected, Load
    from llmserve.bench.target import Endpoint, Target


def bench(
    url: Annotated[str, typer.Argument(help="Any OpenAI-compatible server.")] = DEFAULT_URL,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: the first in /v1/models.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="The server's key.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Requests at once (closed loop).")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Requests per second, Poisson (open loop)."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="How many; default 20 × -c.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds to run, instead of a number of requests.")
    ] = None,
    input_tokens: Annotated[int, typer.Option(min=1, help="Approximate length of a prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer.")] = 64,
    spread: Annotated[
        float, typer.Option(min=0, max=1, help="Vary both lengths by this share.")
    ] = 0.0,
    shared_prefix: Annotated[
        int, typer.Option(min=0, help="Tokens that all prompts begin with.")
    ] = 0,
    token_ids: Annotated[
        int | None,
        typer.Option(
            min=FIRST_TOKEN_ID + 1,
            help="Prompts of random token ids below this, of exact length (completions only).",
        ),
    ] = None,
    ignore_eos: Annotated[bool, typer.Option(help="Answers of full length.")] = True,
    warmup: Annotated[
        int,
        typer.Option(
            min=0,
            help="Requests before measuring; they also calibrate how many words make a token.",
        ),
    ] = 1,
    goodput_ttft: Annotated[
        float | None, typer.Option(min=0, help="Good answers: first token within this many ms.")
    ] = None,
    goodput_itl: Annotated[
        float | None, typer.Option(min=0, help="Good answers: mean gap of at most this many ms.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrivals.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file; - is stdout.")
    ] = None,
) -> None:
    """Measure a server: time to first token, between tokens, throughput, goodput.

    Exit code 1 if no request succeeded. Ctrl-C reports what was done so far.
    """
    if endpoint not in ("completions", "chat"):
        raise typer.BadParameter("must be completions or chat", param_hint="--endpoint")
    if endpoint == "chat" and token_ids is not None:
        raise typer.BadParameter("only completions take token ids", param_hint="--token-ids")
    from rich.console import Console

    from llmserve.bench.load import Amount
    from llmserve.bench.report import Goal, Report
    from llmserve.bench.target import Target

    kind: Endpoint = "chat" if endpoint == "chat" else "completions"
    workload = Workload(
        model=model or "",
        input_tokens=max(input_tokens, shared_prefix + 1),
        output_tokens=output_tokens,
        spread=spread,
        shared_tokens=shared_prefix,
        token_ids=token_ids,
        rate=rate,
        endpoint=kind,
        ignores_eos=ignore_eos,
        seed=seed,
    )
    if requests is None and duration is None:
        requests = 20 * concurrency
    amount = Amount(requests, duration, concurrency, timeout)
    collected = _run(Target.parse(url, api_key), workload, amount, warmup)
    is_goal = goodput_ttft is not None or goodput_itl is not None
    goal = Goal(_seconds(goodput_ttft), _seconds(goodput_itl)) if is_goal else None
    report = Report.of(collected, goal)
    if json_file is not None and str(json_file) == "-":
        print(json.dumps(report.as_json(), indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120)
        for table in report.tables():
            console.print(table)
        if json_file is not None:
            json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    raise typer.Exit(0 if report.succeeded else SERVER_FAILED)


def _run(target: Target, workload: Workload, amount: Amount, warmup: int) -> Collected:
    import uvloop
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from llmserve.bench.load import Collected, Load, first_model, takes_ignore_eos

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("requests", total=amount.requests)
        load: Load | None = None

        async def run() -> None:
            nonlocal load
            wanted = workload
            if not wanted.model:
                wanted = replace(wanted, model=await first_model(target))
            if wanted.ignores_eos and not await takes_ignore_eos(target, wanted):
                console.print(
                    "the server refuses ignore_eos: answers may be shorter than asked for"
                )
                wanted = replace(wanted, ignores_eos=False)
            if warmup:
                first = replace(wanted, seed=wanted.seed + 1_000_003, rate=None, spread=0.0)
                warm = await Load(
                    target, first, replace(amount, requests=warmup, seconds=None)
                ).run()
                if tokens := warm.answers[0].prompt_tokens:
                    wanted = wanted.calibrated(tokens)
            load = Load(target, wanted, amount, lambda answer: bar.advance(task))
            await load.run()

        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(run())
    return load.collected if load is not None else Collected()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
