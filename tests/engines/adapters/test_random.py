"""Jobs join, leave and are cancelled while adapters are loaded, unloaded and loaded anew from other
files: every answer is the one of PEFT's model with the adapter that its job began with."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from engines.batching.asked import Asked, engine_of
from peft_adapters import make_adapter, peft_generated

from llmserve.domain import AdapterSpec, Cancelled, Delta, EngineKind, Failed, Finish, Terminal
from llmserve.engines.engine import Generator
from llmserve.errors import ModelUnloaded

pytestmark = [pytest.mark.usefixtures("no_thread_left"), pytest.mark.slow]

NAMES = ("a", "b", "c")
VERSIONS = (0, 1)
COUNT = 40
BEGINNING = tuple(range(20, 44))
PROMPTS = tuple((*BEGINNING[: 6 * i], 50 + i, 60 - i) for i in range(5))
"""With beginnings in common, which would be found in the cache."""
POOL_TOKENS = 112
"""Small: two of the longest answers grow beyond it, and one of them is preempted."""
ACTIONS = 100

Version = tuple[str, int] | None
Expected = dict[tuple[Version, tuple[int, ...]], list[int]]


@dataclass
class Made:
    base: Path
    folders: dict[tuple[str, int], Path]
    expected: Expected = field(default_factory=dict)


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    scratch = tmp_path_factory.mktemp("adapters")
    modules = {"a": "all-linear", "b": ["q_proj", "up_proj"], "c": ["v_proj", "o_proj"]}
    folders = {
        (name, version): make_adapter(
            tiny_model,
            scratch / f"{name}{version}",
            seed=10 * number + version,
            r=3 + 5 * number + version,
            target_modules=modules[name],
        )
        for number, name in enumerate(NAMES)
        for version in VERSIONS
    }
    found = Made(tiny_model, folders)
    for which in (None, *folders):
        folder = None if which is None else folders[which]
        answers = peft_generated(tiny_model, folder, PROMPTS, COUNT)
        for prompt, answer in zip(PROMPTS, answers, strict=True):
            found.expected[which, prompt] = answer
    return found


class Play:
    """Random actions on one engine, and what each answer must be."""

    def __init__(self, engine: Generator, made: Made) -> None:
        self.engine = engine
        self.made = made
        self.numbers = random.Random(7)
        self.places = asyncio.Semaphore(engine.capacity)
        self.num_loads: Counter[str] = Counter()
        self.loaded: dict[str, Version] = {}
        self.changing: set[str] = set()
        self.right: set[Version] = set()
        self.num_refused = 0

    def act(self) -> Coroutine[Any, Any, None]:
        name = self.numbers.choice(NAMES)
        if self.numbers.random() < 0.2 and name not in self.changing:
            self.changing.add(name)
            return self.unload(name) if name in self.loaded else self.load(name)
        return self.ask(self.numbers.choice([None, *NAMES]))

    async def load(self, name: str) -> None:
        self.num_loads[name] += 1
        version = (name, self.num_loads[name] % len(VERSIONS))
        folder = self.made.folders[version]
        await self.engine.load_adapter(AdapterSpec(name, path=folder), folder)
        self.loaded[name] = version
        self.changing.discard(name)

    async def unload(self, name: str) -> None:
        del self.loaded[name]
        await self.engine.unload_adapter(name)
        self.changing.discard(name)

    async def ask(self, name: str | None) -> None:
        await self.answer(
            name, self.numbers.choice(PROMPTS), self.numbers.choice([None, None, None, 0, 2])
        )

    async def answer(
        self, name: str | None, prompt: tuple[int, ...], leaves_after: int | None = None
    ) -> None:
        async with self.places:
            version = self.loaded.get(name or "")
            asked = Asked(self.engine, prompt, COUNT, adapter=name)
            if leaves_after == 0:
                asked.job.cancel()
            events, told = 0, list[int]()
            while not isinstance(event := await asked.job.mailbox.next(), Terminal):
                told += event.token_ids if isinstance(event, Delta) else ()
                events += 1
                if events == leaves_after:
                    asked.job.cancel()
            await asked.done.wait()
        if name is not None and version is None:
            assert isinstance(event, Failed)
            assert isinstance(event.error, ModelUnloaded)
            self.num_refused += 1
            return
        assert isinstance(event, Finish | Cancelled)
        assert told == self.made.expected[version, prompt][: len(told)]
        if isinstance(event, Finish):
            assert len(told) == COUNT
            self.right.add(version)

    async def finale(self) -> None:
        """What chance may have left out: each adapter from both of its folders, one that is not
        there, and more long answers at once than there are blocks for."""
        for name in NAMES:
            for _ in VERSIONS:
                if name in self.loaded:
                    await self.unload(name)
                await self.answer(name, PROMPTS[0])
                await self.load(name)
                await self.answer(name, PROMPTS[0])
        longest = PROMPTS[-1]
        await asyncio.gather(*(self.answer(name, longest) for name in (None, *NAMES, None, "a")))


@pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED])
def test_answers_are_those_of_the_adapter_that_was_asked(made: Made, kind: EngineKind) -> None:
    async def test() -> None:
        size = POOL_TOKENS * 2 * 2 * 2 * 16 * 4
        async with engine_of(made.base, kind, max_running=6, kv_cache_bytes=size) as engine:
            play = Play(engine, made)
            async with asyncio.TaskGroup() as group:
                for _ in range(ACTIONS):
                    group.create_task(play.act())
                    for _ in range(play.numbers.choice((0, 0, 0, 4, 16))):
                        await asyncio.sleep(0.002)
            await play.finale()
            assert play.right == {None, *made.folders}
            assert play.num_refused >= len(NAMES) * len(VERSIONS)
            stats = engine.stats()
            assert (stats.running, stats.waiting) == (0, 0)
            if kind is EngineKind.BATCHING:
                assert stats.preemptions
                assert not stats.blocks_used
            for name in NAMES:
                await engine.unload_adapter(name)
            assert engine.adapters == ()
            assert engine.info.adapter_bytes == 0

    run(test)
