"""ThreadedEngine on a tiny model: what goes wrong first, then that it says what generate says."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from bounded import run
from engines.threaded.bench import (
    GREEDY,
    PROMPT,
    bench,
    first_delta,
    tokens_of,
)
from transformers import AutoModelForCausalLM

from llmserve.domain import (
    Cancelled,
    Failed,
    Finish,
    FinishReason,
    SamplingParams,
    Started,
)
from llmserve.engines.job import Job
from llmserve.engines.step_report import StepReport
from llmserve.engines.threaded import engine as threaded
from llmserve.engines.threaded.engine import ThreadedEngine
from llmserve.errors import (
    DeviceLost,
    GenerationFailed,
    ModelBroken,
    OutOfMemory,
)

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("bug"), GenerationFailed),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemory),
        (MemoryError(), OutOfMemory),
    ],
)
@pytest.mark.parametrize("at_step", [0, 3])
def test_an_exception_in_generate_ends_its_request_and_no_other(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    expected: type[Exception],
    at_step: int,
) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            plain = b.model.forward
            calls = 0

            def failing(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > at_step:
                    raise raised
                return plain(*args, **kwargs)

            monkeypatch.setattr(b.model, "forward", failing)
            _, events = b.start()
            started, *_, last = await events()
            assert isinstance(started, Started)
            assert isinstance(last, Failed)
            assert isinstance(last.error, expected)
            assert last.usage.completion_tokens == at_step
            assert raised.__traceback__ is None, "its frames would keep the cache alive"
            monkeypatch.setattr(b.model, "forward", plain)
            assert len(await b.tokens()) == 12

    run(test)


def test_a_device_that_is_lost_shows_in_the_age_of_the_last_step(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            monkeypatch.setattr(threaded, "answers", lambda device: False)
            monkeypatch.setattr(b.model, "forward", lambda *args, **kwargs: 1 / 0)
            _, events = b.start()
            assert isinstance((await events())[-1], Failed)
            assert b.engine.stats().seconds_since_step == float("inf")

    run(test)


def test_every_step_is_reported_with_the_tokens_that_it_computed(tiny_model: Path) -> None:
    async def test() -> None:
        reports: list[tuple[str, StepReport]] = []
        async with bench(tiny_model, on_step=lambda *told: reports.append(told)) as b:
            reports.clear()
            await b.tokens(max_tokens=4)
            assert [model for model, _ in reports] == ["tiny"] * 4
            assert [report.tokens for _, report in reports] == [len(PROMPT), 1, 1, 1]
            assert all(report.sampled == 1 and report.seconds > 0 for _, report in reports)

    run(test)


def test_cancel_stops_within_a_token(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            job, events = b.start(max_tokens=400)
            await first_delta(job)
            job.cancel()
            seen = job.completion_tokens
            assert isinstance((await events())[-1], Cancelled)
            assert job.completion_tokens <= seen + 2
            assert job.wasted_tokens <= 2

    run(test)


def test_a_job_cancelled_before_its_thread_never_generates(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            job, events = b.start(is_cancelled=True)
            assert isinstance((await events())[-1], Cancelled)
            assert job.completion_tokens == 0

    run(test)


def test_the_deadline_ends_it_with_what_there_is(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            _, events = b.start(max_tokens=400, deadline=0.0)
            received = await events()
            last = received[-1]
            assert isinstance(last, Finish)
            assert last.reason is FinishReason.TIMEOUT
            assert last.usage.completion_tokens == 1

    run(test)


def test_closing_cancels_what_runs(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            _, events = b.start(max_tokens=400)
            await b.engine.close()
            assert isinstance((await events())[-1], Cancelled)

    run(test)


def test_greedy_tokens_are_those_of_plain_generate(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=12, min_new_tokens=12, do_sample=False
    )[0, len(PROMPT) :].tolist()

    async def test() -> None:
        async with bench(tiny_model) as b:
            assert await b.tokens() == tuple(expected)

    run(test)


def test_seeded_requests_do_not_depend_on_what_runs_beside_them(tiny_model: Path) -> None:
    sampled = [SamplingParams(temperature=1.0, seed=s, ignore_eos=True) for s in range(4)]

    async def test() -> None:
        async with bench(tiny_model, max_running=4) as b:
            alone = [await b.tokens(s, max_tokens=30) for s in sampled]
            state = torch.get_rng_state()
            together = await asyncio.gather(*(b.tokens(s, max_tokens=30) for s in sampled))
            assert list(together) == alone
            assert len(set(alone)) == 4
            assert torch.equal(torch.get_rng_state(), state), "the process's generator moved"
            unseeded = SamplingParams(temperature=1.0, ignore_eos=True)
            assert await b.tokens(unseeded) != await b.tokens(unseeded)

    run(test)


def test_usage_and_finish_reason(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            _, events = b.start(max_tokens=5)
            last = (await events())[-1]
            assert isinstance(last, Finish)
            assert last.reason is FinishReason.LENGTH
            assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (12, 5)
            eos = (await b.tokens(max_tokens=3))[2]
            b.engine._loaded = dataclasses.replace(b.engine._model, eos_ids=(eos,))
            _, events = b.start(dataclasses.replace(GREEDY, ignore_eos=False), max_tokens=9)
            received = await events()
            last = received[-1]
            assert isinstance(last, Finish)
            assert last.reason is FinishReason.STOP
            assert last.usage.completion_tokens == 3
            assert eos not in tokens_of(received)
            _, events = b.start(
                dataclasses.replace(GREEDY, ignore_eos=False, min_tokens=5), max_tokens=9
            )
            last = (await events())[-1]
            assert isinstance(last, Finish)
            assert last.usage.completion_tokens > 5

    run(test)


def test_the_heartbeat_is_the_age_of_the_quietest_job(tiny_model: Path) -> None:
    async def test() -> None:
        async with bench(tiny_model) as b:
            assert b.engine.stats().seconds_since_step is None
            job, events = b.start(max_tokens=400)
            await first_delta(job)
            age = b.engine.stats().seconds_since_step
            assert age is not None
            assert age >= 0
            job.cancel()
            await events()

    run(test)


def _broken(folder: Path, tmp_path: Path, damage: str) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    target = copy / damage.removeprefix("no ").removeprefix("torn ")
    if damage.startswith("no "):
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:100])
    return copy


@pytest.mark.parametrize(
    "damage",
    ["no config.json", "no model.safetensors", "torn model.safetensors", "torn tokenizer.json"],
)
def test_a_damaged_folder_is_a_model_broken_that_names_it(
    tiny_model: Path, tmp_path: Path, damage: str
) -> None:
    folder = _broken(tiny_model, tmp_path, damage)

    async def test() -> None:
        with pytest.raises(ModelBroken, match="tiny"):
            async with bench(folder):
                pass

    run(test)


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_model_that_cannot_generate_is_broken(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    monkeypatch.setattr(threaded, "answers", lambda device: is_alive)

    def refuse(self: ThreadedEngine, job: Job, bridge: object, prefix: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(ThreadedEngine, "_generate", refuse)

    async def test() -> None:
        with pytest.raises(ModelBroken, match="cannot generate") as told:
            async with bench(tiny_model):
                pass
        assert isinstance(told.value, DeviceLost) is not is_alive

    run(test)
