"""How an answer ends and which special tokens it shows: the same on both engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engines.batching.asked import Asked, engine_of, tokenizer_of

from llmserve.domain import Delta, EngineKind, Event, Finish, FinishReason, TokenLogprobs
from llmserve.engines.engine import Generator
from llmserve.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

PROMPT = tuple(range(300, 312))
LENGTH = 12


@dataclass
class Said:
    """What came of one job."""

    events: Sequence[Event]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self._deltas)

    @property
    def tokens(self) -> list[int]:
        return [i for delta in self._deltas for i in delta.token_ids]

    @property
    def logprobs(self) -> list[TokenLogprobs]:
        return [token for delta in self._deltas for token in delta.logprobs]

    @property
    def finish(self) -> Finish:
        last = self.events[-1]
        assert isinstance(last, Finish)
        return last

    @property
    def _deltas(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]


@dataclass
class Bench:
    runner: asyncio.Runner
    engine: Generator
    tokenizer: Tokenizer

    def ask(self, max_tokens: int = LENGTH, **params: Any) -> Said:
        async def events() -> list[Event]:
            return await Asked(self.engine, PROMPT, max_tokens, **params).events()

        return Said(self.runner.run(asyncio.wait_for(events(), 60)))


@pytest.fixture(scope="module", params=[EngineKind.BATCHING, EngineKind.THREADED])
def bench(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Bench]:
    stack = contextlib.AsyncExitStack()
    with asyncio.Runner() as runner:
        engine = runner.run(_entered(stack, tiny_model, request.param))
        assert engine.info.kind is request.param
        yield Bench(runner, engine, tokenizer_of(tiny_model))
        runner.run(stack.aclose())


async def _entered(stack: contextlib.AsyncExitStack, folder: Path, kind: EngineKind) -> Generator:
    return await stack.enter_async_context(engine_of(folder, kind))


@pytest.fixture(scope="module")
def free(bench: Bench) -> Said:
    """The answer that nothing ends, whose fifth token is new to it."""
    said = bench.ask(logprobs=1)
    assert said.tokens[4] not in said.tokens[:4]
    return said


def test_a_stop_token_ends_the_answer_and_is_no_part_of_it(bench: Bench, free: Said) -> None:
    stop = free.tokens[4]
    said = bench.ask(stop_token_ids=(7, stop), ignore_eos=True, logprobs=1)
    assert said.tokens == free.tokens[:4]
    assert said.text == bench.tokenizer.decode(free.tokens[:4])
    assert said.finish.reason is FinishReason.STOP
    assert (said.finish.stop_token, said.finish.stop_string) == (stop, None)
    assert said.finish.usage.completion_tokens == 5
    assert [token.token_id for token in said.logprobs] == said.tokens


def test_a_stop_token_that_is_included_is_part_of_the_answer(bench: Bench, free: Said) -> None:
    stop = free.tokens[4]
    said = bench.ask(stop_token_ids=(stop,), includes_stop=True, logprobs=1)
    assert said.tokens == free.tokens[:5]
    assert said.text == bench.tokenizer.decode(free.tokens[:5])
    assert said.finish.stop_token == stop
    assert [token.token_id for token in said.logprobs] == said.tokens


def test_min_tokens_hold_a_stop_token_back(bench: Bench, free: Said) -> None:
    stop = free.tokens[4]
    said = bench.ask(stop_token_ids=(stop,), min_tokens=LENGTH)
    assert len(said.tokens) == LENGTH
    assert stop not in said.tokens
    assert said.tokens[:4] == free.tokens[:4]
    assert said.finish.reason is FinishReason.LENGTH
    assert said.finish.stop_token is None


def test_a_stop_string_that_is_included_ends_the_text(bench: Bench, free: Said) -> None:
    stop = free.text[6:9]
    end = free.text.index(stop) + len(stop)
    said = bench.ask(stop=(stop,), includes_stop=True, logprobs=1)
    assert said.text == free.text[:end]
    assert said.finish.stop_string == stop
    assert bench.ask(stop=(stop,)).text == free.text[: end - len(stop)]
    assert len(said.logprobs) == said.finish.usage.completion_tokens == len(said.tokens)


def test_special_tokens_are_shown_on_demand(bench: Bench) -> None:
    special = sorted(bench.tokenizer.special_ids)[:2]
    forced = {"logit_bias": ((special[0], 100.0), (special[1], 60.0)), "frequency_penalty": 50.0}
    hidden = bench.ask(4, **forced)
    assert set(hidden.tokens) == set(special)
    assert hidden.text == ""
    names = bench.tokenizer.hf.convert_ids_to_tokens(hidden.tokens)
    shown = bench.ask(4, skips_special_tokens=False, **forced)
    assert shown.tokens == hidden.tokens
    assert shown.text == "".join(names)
    marker = special[1]
    of_parser = bench.ask(4, shown_tokens=frozenset({marker}), **forced)
    marked = [name for i, name in zip(hidden.tokens, names, strict=True) if i == marker]
    assert of_parser.text == "".join(marked)
    assert marked
