"""The engine on a random model: ways out first, then its answers and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from bounded import run
from tiny_encoders import TEXTS, save_encoder, save_transformer

from llmserve.domain import (
    Caller,
    EncodingAnswer,
    EncodingInput,
    EncodingPurpose,
    EncodingRequest,
    EngineKind,
    LoadProgress,
    ModelSpec,
    TextPair,
    Truncation,
)
from llmserve.engines.batch_report import BatchReport
from llmserve.engines.deferred import DeferredEngine
from llmserve.engines.encoding.computation import Computed, EncoderComputation
from llmserve.engines.encoding.engine import EncodingEngine
from llmserve.engines.encoding_job import EncodingJob, EncodingOutcome
from llmserve.engines.encoding_task import TokenInput
from llmserve.engines.factory import build_engine
from llmserve.engines.options import EngineOptions
from llmserve.engines.preparation import QUICK_COUNT
from llmserve.errors import (
    GenerationFailed,
    InputTooLong,
    InvalidRequest,
    LLMServeError,
    ModelBroken,
    ModelUnloaded,
    OutOfMemory,
    ShuttingDown,
    WaitTimeout,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_thread_left")]

ANN = Caller("ann")
EMBED = EncodingPurpose.EMBEDDING


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(
        tmp_path_factory.mktemp("embedder"), prompts={"query": "q: "}, is_normalized=True
    )


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return save_transformer(folder, model=transformers.AutoModelForSequenceClassification)


@dataclass
class Bench:
    engine: EncodingEngine
    reports: list[BatchReport]
    progress: list[LoadProgress]

    async def task(self, *inputs: EncodingInput, deadline: float = 1e12, **fields: Any) -> Any:
        request = EncodingRequest("r", inputs or ("the fox",), **{"purpose": EMBED} | fields)
        return await self.engine.prepare(request, ANN, deadline, lambda: lambda: None)

    async def job(self, *inputs: EncodingInput, **fields: Any) -> tuple[EncodingJob, Ends]:
        ends = Ends(asyncio.Event(), [])
        task = replace(await self.task(*inputs, **fields), deadline=None)
        return EncodingJob(task, on_end=ends.outcomes.append, on_done=ends.done.set), ends

    async def ask(self, *inputs: EncodingInput, **fields: Any) -> EncodingAnswer:
        job, ends = await self.job(*inputs, **fields)
        self.engine.start(job)
        await ends.done.wait()
        [outcome] = ends.outcomes
        if isinstance(outcome, LLMServeError):
            raise outcome
        return outcome


@dataclass
class Ends:
    done: asyncio.Event
    outcomes: list[EncodingOutcome]


@contextlib.asynccontextmanager
async def loaded(folder: Path, **fields: Any) -> AsyncIterator[Bench]:
    reports: list[BatchReport] = []
    progress: list[LoadProgress] = []
    options = EngineOptions(
        fetch=lambda spec, report: folder,
        torch_threads=fields.pop("threads", 1),
        on_batch=lambda model, report: reports.append(report),
        max_tokens_per_step=fields.pop("budget", None),
    )
    engine = EncodingEngine(ModelSpec("m", path=folder, **fields), options, why="a test")
    try:
        await engine.load(progress.append)
        yield Bench(engine, reports, progress)
    finally:
        await engine.close()
        await engine.close()
    assert not engine.stats().running


class Held:
    """Holds the first batch up until a test lets it go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.may_go = threading.Event(), threading.Event()
        compute = EncoderComputation.compute

        def held(
            machine: EncoderComputation, inputs: Sequence[TokenInput], *, is_alone: bool
        ) -> Computed:
            self.entered.set()
            assert self.may_go.wait(20)
            return compute(machine, inputs, is_alone=is_alone)

        monkeypatch.setattr(EncoderComputation, "compute", held)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 20)


def test_what_cannot_be_encoded_is_refused(embedder: Path) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            for inputs, fields, kind, says in (
                ((TEXTS[2] * 9,), {}, InputTooLong, "64 tokens.*input 0 has"),
                (("a", "fox " * 9), {"max_tokens": 5}, InputTooLong, "input 1 has 11"),
                (("fox",), {"max_tokens": 2, "truncation": Truncation.KEEP_END},
                 InputTooLong, "3 tokens"),
                (((),), {}, InvalidRequest, "input 0 is empty"),
                (((5, 9999),), {}, InvalidRequest, "9999 is outside"),
                (("a",), {"dimensions": 33}, InvalidRequest, "1 to 32"),
                (("a",), {"dimensions": 0}, InvalidRequest, "1 to 32"),
                (("a",), {"prompt_name": "nope"}, InvalidRequest, "no prompt 'nope'.*query"),
                (("a",) * 2049, {}, InvalidRequest, "2,049 inputs"),
                ((TextPair("a", "b"),), {}, InvalidRequest, "not of pairs"),
                (("a",), {"purpose": EncodingPurpose.SCORE}, InvalidRequest, "pairs"),
                (("a",), {"purpose": EncodingPurpose.CLASSIFICATION},
                 InvalidRequest, "what it can do: embeddings, rerank, score"),
                ((TextPair("a", "b"),), {"purpose": EncodingPurpose.SCORE, "dimensions": 3},
                 InvalidRequest, "for embeddings"),
            ):  # fmt: skip
                with pytest.raises(kind, match=says):
                    await b.task(*inputs, **fields)
            assert (await b.ask("")).tokens == (2,)
            assert b.engine.stats().running == 0

    run(test)


def test_texts_that_take_too_long_to_read_are_told(
    embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            may_go = threading.Event()
            builder = b.engine._builder
            assert builder is not None
            monkeypatch.setattr(builder, "build", lambda *given: may_go.wait(20))
            monkeypatch.setattr("llmserve.engines.encoding.engine.LEAST_SECONDS", 0.01)
            monkeypatch.setattr("llmserve.engines.preparation.QUICK", 0)
            with pytest.raises(WaitTimeout, match="not made into tokens"):
                await b.task(deadline=0.0)
            waiting = asyncio.create_task(b.task())
            await asyncio.sleep(0)
            assert b.engine.fail_preparing(ShuttingDown("going")) == 1
            with pytest.raises(ShuttingDown):
                await waiting
            may_go.set()

    run(test)


@pytest.mark.parametrize(("count", "is_on_thread"), [(QUICK_COUNT, False), (QUICK_COUNT + 1, True)])
def test_many_texts_are_read_on_a_thread_however_short(
    embedder: Path, monkeypatch: pytest.MonkeyPatch, count: int, is_on_thread: bool
) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            assert b.engine._builder is not None
            monkeypatch.setattr(b.engine._builder, "build", lambda *given: threading.get_ident())
            thread = await b.task(*["a"] * count)
            assert (thread != threading.get_ident()) is is_on_thread

    run(test)


def test_a_cancelled_job_gives_its_place_back_after_the_batch(
    embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            held = Held(monkeypatch)
            first, first_ends = await b.job("one")
            second, second_ends = await b.job("two")
            b.engine.start(first)
            await held.begun()
            b.engine.start(second)
            second.cancel()
            assert b.engine.stats().running == 2
            held.may_go.set()
            await first_ends.done.wait()
            await second_ends.done.wait()
            assert len(first_ends.outcomes) == 1
            assert second_ends.outcomes == []
            assert b.engine.stats().running == 0

    run(test)


def test_closing_ends_what_runs_and_refuses_what_comes(
    embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with loaded(embedder, budget=8) as b:
            held = Held(monkeypatch)
            job, ends = await b.job(*["the little fox"] * 20)
            late, _ = await b.job("late")
            b.engine.start(job)
            await held.begun()
            closing = asyncio.create_task(b.engine.close())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                b.engine.start(late)
            held.may_go.set()
            await closing
            await ends.done.wait()
            assert [type(outcome) for outcome in ends.outcomes] == [ModelUnloaded]

    run(test)


def test_out_of_memory_ends_one_request(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            compute = EncoderComputation.compute

            def small(
                machine: EncoderComputation, inputs: Sequence[TokenInput], *, is_alone: bool
            ) -> Computed:
                if max(map(len, inputs)) > 20:
                    raise MemoryError
                return compute(machine, inputs, is_alone=is_alone)

            monkeypatch.setattr(EncoderComputation, "compute", small)
            results = await asyncio.gather(b.ask(TEXTS[2]), b.ask("Rain!"), return_exceptions=True)
            assert isinstance(results[0], OutOfMemory)
            assert isinstance(results[1], EncodingAnswer)

    run(test)


def test_a_thread_that_died_fails_everybody(
    embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            monkeypatch.setattr(
                EncoderComputation, "compute", lambda machine, inputs, is_alone: None
            )
            with pytest.raises(GenerationFailed, match="engine failed"):
                await b.ask("one")
            assert b.engine.stats().seconds_since_step == float("inf")
            with pytest.raises(GenerationFailed, match="engine failed"):
                await b.ask("two")

    run(test)


def test_a_model_that_cannot_encode_is_broken(
    embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(machine: EncoderComputation, inputs: Sequence[TokenInput]) -> Computed:
        raise ValueError("no")

    monkeypatch.setattr(EncoderComputation, "compute", fail)

    async def test() -> None:
        with pytest.raises(ModelBroken, match="cannot encode"):
            async with loaded(embedder):
                raise AssertionError("it was loaded")

    run(test)


def test_a_checkpoint_for_something_else_is_refused(tmp_path: Path, embedder: Path) -> None:
    save_transformer(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForSequenceClassification"))

    async def test() -> None:
        with pytest.raises(ModelBroken, match=r"classifier.*not trained"):
            async with loaded(tmp_path):
                raise AssertionError("it was loaded")

    run(test)


def test_loading_ends_when_it_is_closed(embedder: Path) -> None:
    async def test() -> None:
        engine = EncodingEngine(
            ModelSpec("m", path=embedder),
            EngineOptions(fetch=lambda spec, report: embedder),
            why="a test",
        )

        async def load() -> None:
            await engine.load(lambda progress: None)

        loading = asyncio.create_task(load())
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises((ModelBroken, ModelUnloaded)):
            await loading

    run(test)


def test_it_says_what_it_is(embedder: Path, classifier: Path) -> None:
    async def test() -> None:
        async with loaded(embedder) as b:
            info = b.engine.info
            assert (info.kind, info.max_context) == (EngineKind.ENCODING, 64)
            assert info.capabilities == ("embeddings", "rerank", "score")
            assert info.encoding is not None
            assert (info.encoding.dimensions, info.encoding.prompts) == (32, ("query",))
            assert info.encoding.is_normalized
            assert info.architecture == "bert"
            assert info.weight_bytes == 4 * info.parameters
            assert "warm-up" in [progress.stage for progress in b.progress]
            report = await b.engine.warm(["one", TEXTS[2] * 9], ["prefix"])
            assert len(report.prompt_seconds) == 2
            assert report.prefix_problems == ("a model that encodes keeps no prefixes",)
            read = await b.engine.read(
                lambda tokenizer: tokenizer.encode("the fox"),
                size=7,
                caller=ANN,
                hold=lambda: lambda: None,
            )
            assert len(read) == 4
        async with loaded(classifier) as b:
            assert b.engine.info.capabilities == ("classification",)
            answer = await b.ask("fox", purpose=EncodingPurpose.CLASSIFICATION)
            assert answer.labels == ("LABEL_0", "LABEL_1")

    run(test)


def test_requests_share_batches_and_get_their_own(embedder: Path) -> None:
    async def test() -> None:
        async with loaded(embedder, budget=64) as b:
            b.reports.clear()
            alone = [await b.ask(text) for text in TEXTS]
            num_alone = len(b.reports)
            together = await asyncio.gather(*(b.ask(text) for text in TEXTS), b.ask(*TEXTS))
            for one, other in zip(alone, together, strict=False):
                np.testing.assert_allclose(one.vectors[0], other.vectors[0], atol=1e-5)
            for one, vector in zip(alone, together[-1].vectors, strict=True):
                np.testing.assert_allclose(one.vectors[0], vector, atol=1e-5)
            assert len(b.reports) - num_alone < 2 * len(TEXTS)
            tokens = sum(sum(answer.tokens) for answer in (*alone, *together))
            assert sum(report.tokens for report in b.reports) == tokens

    run(test)


def test_threads_that_compute_at_once_keep_their_inputs_apart(embedder: Path) -> None:
    async def test() -> None:
        async with loaded(embedder, budget=32, threads=3) as b:
            assert "without padding" in b.engine.info.why
            texts = [" ".join(TEXTS[: 1 + n % 3])[: 9 + n] for n in range(48)]
            alone = [await b.ask(text) for text in texts]
            for _ in range(3):
                together = await asyncio.gather(*map(b.ask, texts))
                for one, other in zip(alone, together, strict=True):
                    np.testing.assert_allclose(one.vectors[0], other.vectors[0], atol=1e-5)

    run(test)


def test_the_factory_takes_it_for_models_that_encode(embedder: Path) -> None:
    async def test() -> None:
        options = EngineOptions(fetch=lambda spec, report: embedder, torch_threads=1)
        for spec in (ModelSpec("m", path=embedder), ModelSpec("m", hub_id="org/m")):
            engine = build_engine(spec, options)
            assert isinstance(engine, DeferredEngine)
            assert engine.stats().running == 0
            await engine.load(lambda progress: None)
            assert isinstance(engine.serving, EncodingEngine)
            assert engine.info is not None
            assert (await engine.warm(["a"], [])).prompt_seconds
            read = partial(engine.read, size=1, caller=ANN, hold=lambda: lambda: None)
            assert await read(lambda tokenizer: tokenizer.vocab_size)
            assert engine.fail_preparing(ShuttingDown("going")) == 0
            await engine.close()
        threaded = ModelSpec("m", path=embedder, engine=EngineKind.THREADED)
        chosen = build_engine(threaded, options)
        assert not isinstance(chosen, DeferredEngine)
        await chosen.close()

    run(test)
