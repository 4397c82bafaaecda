"""The heartbeat: of a worker that hangs, of one that slept, of one that leaves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from bounded import run
from fake_engine import FakeEngine, LetterTokenizer
from manual_clock import ManualClock

from llmserve.clock import AwakeClock
from llmserve.domain import (
    Caller,
    EngineStats,
    Failed,
    GenerationRequest,
    ModelSpec,
    Prompt,
)
from llmserve.errors import DeviceLost, GenerationFailed, ModelBroken
from llmserve.fleet.board import Board, State
from llmserve.observability.metrics import Metrics
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.service.watchdog import BEAT_SECONDS, Watchdog

HANG_SECONDS = 30.0


class TimedEngine(FakeEngine):
    """Knows by a clock how long it was silent, as the real ones do."""

    def __init__(self, clock: AwakeClock) -> None:
        super().__init__(clock=clock)
        self.stepped_at: float | None = None
        self.counts: EngineStats | None = None

    def stats(self) -> EngineStats:
        if self.counts is not None:
            return self.counts
        if self.stepped_at is None:
            return EngineStats(seconds_preparing=self.prompts.seconds_running)
        return EngineStats(1, self.clock() - self.stepped_at)


class Worker:
    """A worker's service, its watchdog and its row, on a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.machine = ManualClock()
        self.clock = AwakeClock(self.machine)
        self.board = Board(folder / "board", 2, self.clock)
        self.engine = TimedEngine(self.clock)
        self.registry = Registry([ModelSpec("fake")], clock=self.clock)
        self.loader = Loader(self.registry, lambda spec: self.engine)
        limits = Limits(max_waiting=1, wait_timeout_seconds=60.0, request_timeout_seconds=600.0)
        self.metrics = Metrics()
        recorder = Recorder(Metrics(), clock=self.clock)
        self.service = Service(self.registry, self.loader, limits, recorder, clock=self.clock)
        self.watchdog = Watchdog(
            self.service,
            self.registry,
            self.loader,
            self.metrics,
            HANG_SECONDS,
            self.board.row(0),
            self.clock,
        )

    async def start(self) -> None:
        self.loader.start()
        await self.loader.loaded()

    @property
    def state(self) -> State | None:
        vitals = self.board.read(0)
        return vitals.state if vitals is not None else None

    def wake_after(self, seconds: float) -> None:
        """What `run` does at its next turn, after a pause of so long."""
        self.machine.now += seconds
        self.clock.tick()
        self.watchdog.beat()


def test_an_engine_that_hangs_is_told_and_its_requests_fail(tmp_path: Path) -> None:
    async def test() -> None:
        worker = Worker(tmp_path)
        await worker.start()
        request = GenerationRequest(id="r", prompt="hi")
        with worker.clock.ticking():
            async with worker.service.open(request, Caller()) as generation:
                job = worker.engine.running[0]
                job.last_step_at = worker.engine.stepped_at = worker.clock()
                while worker.state is not State.HUNG:
                    assert worker.machine.now < 1000.0 + HANG_SECONDS + 1.0
                    worker.wake_after(BEAT_SECONDS)
                assert isinstance(generation.terminal, Failed)
                worker.engine.finish_all()
        await worker.loader.close()

    run(test)


def test_a_prompt_that_hangs_is_told_and_those_who_wait_for_it_fail(tmp_path: Path) -> None:
    may_end = threading.Event()

    class Looping(LetterTokenizer):
        def encode(
            self, prompt: Prompt, max_tokens: int | None = None, *, add_special_tokens: bool = True
        ) -> list[int]:
            assert may_end.wait(20)
            return super().encode(prompt)

    async def test() -> None:
        worker = Worker(tmp_path)
        worker.engine.tokenizer = Looping()
        await worker.start()
        (model,) = worker.registry.models

        async def ask() -> None:
            async with worker.service.open(GenerationRequest("r", "hi"), Caller()):
                pass

        with worker.clock.ticking():
            asked = [asyncio.create_task(ask()) for _ in range(3)]
            while model.seconds_since_step is None:
                await asyncio.sleep(0)
            worker.wake_after(100 * HANG_SECONDS)
            assert worker.state is State.READY, "a pause is no hang"
            while worker.state is not State.HUNG:
                assert model.seconds_since_step <= HANG_SECONDS
                worker.wake_after(BEAT_SECONDS)
            for task in asked:
                with pytest.raises(GenerationFailed, match="not made into tokens within 30 s"):
                    await task
            may_end.set()
            while model.seconds_since_step is not None:
                await asyncio.sleep(0.001)
            worker.watchdog.beat()
            assert worker.state is State.READY
        await worker.loader.close()

    run(test)


def test_a_device_that_was_lost_while_a_model_loaded_asks_for_a_new_worker(tmp_path: Path) -> None:
    async def test() -> None:
        worker = Worker(tmp_path)
        worker.engine._load_error = ModelBroken("torn")
        await worker.start()
        worker.watchdog.beat()
        assert worker.state is State.BROKEN
        worker.engine._load_error = DeviceLost("cuda:0 does not answer any more")
        await worker.loader.load(worker.registry.find("fake"))
        worker.watchdog.beat()
        assert worker.state is State.HUNG
        await worker.loader.close()

    run(test)


def test_a_pause_is_no_hang(tmp_path: Path) -> None:
    async def test() -> None:
        worker = Worker(tmp_path)
        await worker.start()
        request = GenerationRequest(id="r", prompt="hi")
        with worker.clock.ticking():
            async with worker.service.open(request, Caller()) as generation:
                job = worker.engine.running[0]
                job.last_step_at = worker.engine.stepped_at = worker.clock()
                for _ in range(3):
                    worker.wake_after(100 * HANG_SECONDS)
                assert worker.state is State.READY
                assert generation.terminal is None
                worker.engine.finish_all()
        await worker.loader.close()

    run(test)


def test_whoever_beats_no_more_has_no_row(tmp_path: Path) -> None:
    async def test() -> None:
        worker = Worker(tmp_path)
        await worker.start()
        beating = asyncio.create_task(worker.watchdog.run())
        await asyncio.sleep(0)
        assert worker.state is State.READY
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        assert worker.state is None
        await worker.loader.close()

    run(test)


def test_what_an_engine_counts_is_told_at_each_beat(tmp_path: Path) -> None:
    async def test() -> None:
        worker = Worker(tmp_path)
        await worker.start()
        counts = EngineStats(
            blocks_used=3, blocks_total=8, preemptions=2, states_used=4, states_total=9,
            checkpoints=5, checkpoint_hits=6,
        )  # fmt: skip
        for counts_now in (counts, replace(counts, preemptions=3, checkpoint_hits=8)):
            worker.engine.counts = counts_now
            worker.watchdog.beat()
        told = worker.metrics.render().decode()
        for name, value in {
            "kv_blocks_used": 3, "kv_blocks": 8, "num_preemptions_total": 3,
            "recurrent_states_used": 4, "recurrent_states": 9, "state_checkpoints": 5,
            "state_checkpoint_hits_total": 8,
        }.items():  # fmt: skip
            assert f'llmserve_{name}{{model="fake"}} {value}.0' in told
        await worker.loader.close()

    run(test)
