"""`llmserve bench`: measures a running server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llmserve.bench.embeddings import LONGEST, SHORTEST, EmbeddingWorkload
from llmserve.bench.workload import FIRST_TOKEN_ID, Workload
from llmserve.cli.bench_run import measured, told
from llmserve.cli.exit_codes import SERVER_FAILED
from llmserve.server_url import DEFAULT_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmserve.bench.answer import TimedAnswer
    from llmserve.bench.embeddings import TimedEmbeddings
    from llmserve.bench.load import Amount, Collected, Load
    from llmserve.bench.target import Endpoint, Target

OF_ANSWERS: Final = (
    "endpoint", "input_tokens", "output_tokens", "spread", "shared_prefix", "ignore_eos",
    "goodput_ttft", "goodput_itl",
)  # fmt: skip
OF_EMBEDDINGS: Final = ("inputs", "shortest", "longest")
"""Options that mean nothing for the other."""


def bench(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Any OpenAI-compatible server.")] = DEFAULT_URL,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: the first in /v1/models.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="The server's key.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Ask for embeddings instead of answers.")
    ] = False,
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
            help="Prompts of random token ids below this, of exact length (not for chat).",
        ),
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Embeddings: texts in a request.")] = 1,
    shortest: Annotated[
        int, typer.Option(min=1, help="Embeddings: least tokens of a text.")
    ] = SHORTEST,
    longest: Annotated[
        int, typer.Option(min=1, help="Embeddings: most tokens of a text.")
    ] = LONGEST,
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

    With --embeddings: texts and tokens per second, and how long an answer takes.

    Exit code 1 if no request succeeded. Ctrl-C reports what was done so far.
    """
    _refuse(context, OF_ANSWERS if embeddings else OF_EMBEDDINGS, embeddings)
    if endpoint not in ("completions", "chat"):
        raise typer.BadParameter("must be completions or chat", param_hint="--endpoint")
    if endpoint == "chat" and token_ids is not None:
        raise typer.BadParameter("only completions take token ids", param_hint="--token-ids")
    if shortest > longest:
        raise typer.BadParameter(f"is more than --longest, {longest}", param_hint="--shortest")
    from llmserve.bench.embedding_report import EmbeddingReport
    from llmserve.bench.load import Amount
    from llmserve.bench.report import Goal, Report
    from llmserve.bench.target import Target

    if requests is None and duration is None:
        requests = 20 * concurrency
    amount = Amount(requests, duration, concurrency, timeout)
    target = Target.parse(url, api_key)
    report: Report | EmbeddingReport
    if embeddings:
        texts = EmbeddingWorkload(
            model=model or "",
            shortest=shortest,
            longest=longest,
            inputs=inputs,
            token_ids=token_ids,
            rate=rate,
            seed=seed,
        )
        report = EmbeddingReport.of(_embedded(target, texts, amount, warmup))
    else:
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
        is_goal = goodput_ttft is not None or goodput_itl is not None
        goal = Goal(_seconds(goodput_ttft), _seconds(goodput_itl)) if is_goal else None
        report = Report.of(_answered(target, workload, amount, warmup), goal)
    told(report, json_file)
    raise typer.Exit(0 if report.succeeded else SERVER_FAILED)


def _answered(
    target: Target, workload: Workload, amount: Amount, warmup: int
) -> Collected[TimedAnswer]:
    from llmserve.bench.load import Load, first_model, takes_ignore_eos

    async def prepared(on_answer: Callable[[TimedAnswer], None]) -> Load[TimedAnswer]:
        wanted = workload
        if not wanted.model:
            wanted = replace(wanted, model=await first_model(target))
        if wanted.ignores_eos and not await takes_ignore_eos(target, wanted):
            typer.echo(
                "the server refuses ignore_eos: answers may be shorter than asked for", err=True
            )
            wanted = replace(wanted, ignores_eos=False)
        if warmup:
            first = replace(wanted, seed=wanted.seed + 1_000_003, rate=None, spread=0.0)
            warm = await Load(target, first, replace(amount, requests=warmup, seconds=None)).run()
            if tokens := warm.answers[0].prompt_tokens:
                wanted = wanted.calibrated(tokens)
        return Load(target, wanted, amount, on_answer)

    return measured(amount, prepared)


def _embedded(
    target: Target, workload: EmbeddingWorkload, amount: Amount, warmup: int
) -> Collected[TimedEmbeddings]:
    from llmserve.bench.load import Load, first_model

    async def prepared(on_answer: Callable[[TimedEmbeddings], None]) -> Load[TimedEmbeddings]:
        wanted = workload
        if not wanted.model:
            wanted = replace(wanted, model=await first_model(target, "embeddings"))
        if warmup:
            first = wanted.of_one_length()
            warm = await Load(target, first, replace(amount, requests=warmup, seconds=None)).run()
            if tokens := warm.answers[0].tokens:
                wanted = wanted.calibrated(tokens)
        return Load(target, wanted, amount, on_answer)

    return measured(amount, prepared)


def _refuse(context: typer.Context, names: tuple[str, ...], embeddings: bool) -> None:
    """Refuse options that were given and mean nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"means nothing {'with' if embeddings else 'without'} --embeddings",
                param_hint=f"--{name.replace('_', '-')}",
            )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
