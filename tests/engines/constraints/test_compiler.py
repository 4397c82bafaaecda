"""The door to constraints: once for all who ask, kept, bounded, and closed with the engine."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable

import pytest
from bounded import run
from engines.constraints.small import allowed, of_schema, small_vocabulary
from llguidance import LLParserLimits

from llmserve.domain import Constraint, ConstraintKind
from llmserve.engines.constraints import compilation
from llmserve.engines.constraints import compiler as module
from llmserve.engines.constraints.compilation import Compiled, compile_constraint
from llmserve.engines.constraints.compiler import ConstraintCompiler
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.token_rule import AnswerRule
from llmserve.errors import GenerationFailed, InvalidRequest, ModelUnloaded

pytestmark = pytest.mark.usefixtures("no_thread_left")
GONE = ModelUnloaded("gone")


class Counted:
    """Counts compilations, each of which waits for `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.go = threading.Event()
        monkeypatch.setattr(module, "compile_constraint", self)

    def __call__(self, constraint: Constraint, vocabulary: Vocabulary) -> Compiled:
        self.count += 1
        assert self.go.wait(10)
        return compile_constraint(constraint, vocabulary)


def test_a_refusal_names_each_callers_own_field_and_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        counted = Counted(monkeypatch)
        counted.go.set()
        compiler = ConstraintCompiler("m", small_vocabulary())
        for param in ("response_format", "guided_json"):
            bad = Constraint(ConstraintKind.JSON_SCHEMA, '{"not": {}}', param)
            with pytest.raises(InvalidRequest, match=f"^{param} cannot be served: #/not: ") as told:
                await compiler.compile(bad)
            assert told.value.param == param
        assert counted.count == 1
        compiler.close(GONE)

    run(test)


def test_equal_constraints_are_compiled_once_though_the_first_caller_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        counted = Counted(monkeypatch)
        compiler = ConstraintCompiler("m", small_vocabulary())
        ended: list[str] = []

        def hold() -> Callable[[], None]:
            return lambda: ended.append("end")

        first = asyncio.create_task(compiler.compile(of_schema({"const": 1}), hold=hold))
        second = asyncio.create_task(compiler.compile(of_schema({"const": 1}), hold=hold))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        counted.go.set()
        new_rule = await second
        await compiler.compile(of_schema({"const": 1}))
        assert counted.count == 1
        assert ended == ["end"]
        one, other = new_rule(), new_rule()
        one.accept(allowed(one)[0])
        assert one.is_complete
        assert not other.is_complete
        compiler.close(GONE)

    run(test)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        counted = Counted(monkeypatch)
        counted.go.set()
        monkeypatch.setattr(module, "MAX_ENTRIES", 2)
        compiler = ConstraintCompiler("m", small_vocabulary())
        for value in (1, 2, 1, 3, 1, 2):
            await compiler.compile(of_schema({"const": value}))
        assert counted.count == 4, "1, 2, 3, and 2 again"
        monkeypatch.setattr(module, "MAX_CHARS", 1)
        await compiler.compile(of_schema({"const": 4}))
        await compiler.compile(of_schema({"const": 4}))
        assert counted.count == 6
        compiler.close(GONE)

    run(test)


def use_up(new_rule: Callable[[], AnswerRule]) -> None:
    """Write answers until one fails."""
    choose = random.Random(0).choice
    for rule in iter(new_rule, None):
        for _ in range(200):
            rule.accept(choose(allowed(rule)))


def test_what_answers_have_used_up_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LLParserLimits(max_lexer_states=3000, verbose_errors=False)
    monkeypatch.setattr(compilation, "LIMITS", limits)

    async def test() -> None:
        counted = Counted(monkeypatch)
        counted.go.set()
        compiler = ConstraintCompiler("m", small_vocabulary())
        many = Constraint(ConstraintKind.REGEX, r"(.*[a-m].{18}b(.|\n)*){3}")
        old_rule = await compiler.compile(many)
        with pytest.raises(GenerationFailed):
            use_up(old_rule)
        with pytest.raises(GenerationFailed):
            allowed(old_rule())
        new_rule = await compiler.compile(many)
        assert allowed(new_rule())
        assert counted.count == 2
        await compiler.compile(many)
        assert counted.count == 2
        compiler.close(GONE)

    run(test)


def test_whoever_waits_is_told_when_the_engine_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        counted = Counted(monkeypatch)
        compiler = ConstraintCompiler("m", small_vocabulary())
        waiting = asyncio.create_task(compiler.compile(of_schema({})))
        await asyncio.sleep(0.01)
        assert compiler.seconds_running is not None
        compiler.close(GONE)
        with pytest.raises(ModelUnloaded):
            await waiting
        with pytest.raises(ModelUnloaded):
            await compiler.compile(of_schema({}))
        counted.go.set()

    run(test)


def test_references_that_go_deep_do_not_end_the_process() -> None:
    async def test() -> None:
        compiler = ConstraintCompiler("m", small_vocabulary())
        link = [
            {"type": "object", "properties": {"a": {"$ref": f"#/$defs/{i + 1}"}}}
            for i in range(1200)
        ]
        definitions = {str(i): each for i, each in enumerate(link)} | {"1200": {}}
        new_rule = await compiler.compile(of_schema({"$defs": definitions, "$ref": "#/$defs/0"}))
        assert allowed(new_rule())
        compiler.close(GONE)

    run(test)


def test_a_deadline_ends_the_wait_and_the_work_gives_back_what_it_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        counted = Counted(monkeypatch)
        compiler = ConstraintCompiler("m", small_vocabulary())
        ended = asyncio.Event()

        def hold() -> Callable[[], None]:
            return ended.set

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await compiler.compile(of_schema({"const": 2}), hold=hold)
        assert not ended.is_set(), "the thread still works for it"
        counted.go.set()
        await ended.wait()
        await compiler.compile(of_schema({"const": 2}))
        assert counted.count == 1, "what came of it is kept"
        compiler.close(GONE)

    run(test)
