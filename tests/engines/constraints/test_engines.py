"""Both engines, one suite: a random model at temperature 1 says what its constraint allows."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from bounded import run
from engines.batching.asked import engine_of
from engines.constraints.schemas import COMBINED, OBJECTS

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Cancelled,
    Constraint,
    ConstraintKind,
    Delta,
    EngineKind,
    Event,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    SamplingFields,
)
from llmserve.engines.constraints.compilation import compile_constraint
from llmserve.engines.constraints.reasoning import AfterReasoning
from llmserve.engines.constraints.vocabulary import Vocabulary
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import TokenTask
from llmserve.engines.token_rule import Words
from llmserve.engines.weights.loading import LoadedModel
from llmserve.errors import GenerationFailed, InvalidRequest

pytestmark = [
    pytest.mark.usefixtures("no_thread_left"),
    pytest.mark.parametrize("kind", [EngineKind.BATCHING, EngineKind.THREADED]),
]
DEMO = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITY = Constraint(ConstraintKind.CHOICE, '["Paris", "Rome", "Oslo"]')


@dataclass(frozen=True)
class Answer:
    text: str
    ids: tuple[int, ...]
    last: Finish | Failed | Cancelled
    logprobs: tuple[float, ...] = ()

    @property
    def reason(self) -> FinishReason:
        assert isinstance(self.last, Finish), self.last
        return self.last.reason


def schema(document: Any) -> Constraint:
    return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(document))


@asynccontextmanager
async def engine(folder: Path, kind: EngineKind) -> AsyncIterator[Generator]:
    async with engine_of(folder, kind) as made:
        yield made


async def prepared(
    generator: Generator, constraints: Sequence[Constraint | None], **sampling: Any
) -> Sequence[TokenTask]:
    fields = {"temperature": 1.0, "max_tokens": 60, **sampling}
    requests = [
        GenerationRequest("r", (5, 6, 7), sampling=SamplingFields(**fields), constraint=constraint)
        for constraint in constraints
    ]
    deadline = awake_clock() + 60
    tasks = await generator.prepare(requests, Caller("me"), deadline, lambda: lambda: None)
    return [task for task in tasks if isinstance(task, TokenTask)]


async def finished(generator: Generator, task: TokenTask) -> Answer:
    mailbox = Mailbox(asyncio.get_running_loop())
    done = asyncio.Event()
    generator.start(Job(task, mailbox, on_done=done.set))
    events: list[Event] = []
    while not events or not isinstance(events[-1], Finish | Failed | Cancelled):
        events.append(await mailbox.next())
    await done.wait()
    deltas = [event for event in events if isinstance(event, Delta)]
    last = events[-1]
    assert isinstance(last, Finish | Failed | Cancelled)
    return Answer(
        "".join(delta.text for delta in deltas),
        tuple(i for delta in deltas for i in delta.token_ids),
        last,
        tuple(entry.logprob for delta in deltas for entry in delta.logprobs),
    )


async def answers(
    generator: Generator, constraints: Sequence[Constraint | None], **sampling: Any
) -> list[Answer]:
    found: list[Answer] = []
    tasks = await prepared(generator, constraints, **sampling)
    for begin in range(0, len(tasks), generator.capacity):
        part = tasks[begin : begin + generator.capacity]
        found += await asyncio.gather(*(finished(generator, task) for task in part))
    return found


def test_a_refused_constraint_is_told_with_its_field_before_anything_runs(
    tiny_model: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            bad = Constraint(ConstraintKind.JSON_SCHEMA, '{"not": {}}', param="guided_json")
            with pytest.raises(InvalidRequest, match=r"guided_json cannot.*#/not") as refused:
                await prepared(e, [bad])
            assert refused.value.param == "guided_json"

    run(test)


def test_a_rule_that_fails_ends_its_request_and_no_other(
    tiny_model: Path, kind: EngineKind
) -> None:
    class Broken:
        is_idle = is_complete = False

        def restrict(self, words: Words) -> None:
            raise GenerationFailed("too complex")

        def accept(self, token_id: int) -> None:
            raise AssertionError("nothing was chosen")

    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            good, other = await prepared(e, [CITY, CITY])
            broken = replace(good, request_id="b", prompt_ids=(1, 2), max_tokens=5, new_rule=Broken)
            found = await asyncio.gather(*(finished(e, t) for t in (good, broken, other)))
            assert found[0].text in CITY.source
            assert found[2].text in CITY.source
            assert isinstance(found[1].last, Failed)
            assert found[1].last.error.message == "too complex"

    run(test)


def test_text_validates_or_is_cut_short(tiny_model: Path, kind: EngineKind) -> None:
    documents = [*OBJECTS[:12], *COMBINED[:12], DEMO]

    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            found = await answers(e, [schema(each) for each in documents], max_tokens=40)
            for document, answer in zip(documents, found, strict=True):
                if answer.reason is FinishReason.LENGTH:
                    prefixes = e_rule(e, document)
                    assert all(prefixes(i) for i in answer.ids), (document, answer.text)
                else:
                    jsonschema.validate(json.loads(answer.text), document)
            assert sum(answer.reason is FinishReason.STOP for answer in found) > 8

    run(test)


def model_of(generator: Generator) -> LoadedModel:
    loaded: LoadedModel = generator._chosen._model  # type: ignore[attr-defined]
    return loaded


def e_rule(generator: Generator, document: Any) -> Callable[[int], bool]:
    """Whether each token in turn is allowed after those before."""
    loaded = model_of(generator)
    vocabulary = Vocabulary(loaded.tokenizer, loaded.vocab, loaded.eos_ids)
    rule = compile_constraint(schema(document), vocabulary).new_rule()

    def takes(token_id: int) -> bool:
        words = np.full(-(-loaded.vocab // 32), -1, np.int32)
        rule.restrict(words)
        rule.accept(token_id)
        return bool(words[token_id // 32] >> (token_id % 32) & 1)

    return takes


SHAPES = (
    (CITY, "Paris|Rome|Oslo"),
    (Constraint(ConstraintKind.REGEX, "[ab]{2}-[0-9]{3}"), "[ab]{2}-[0-9]{3}"),
    (Constraint(ConstraintKind.GRAMMAR, 'root ::= "x" [0-9] "y"'), "x[0-9]y"),
    (Constraint(ConstraintKind.GRAMMAR, 'start: "<" %json {"enum": [1, 2]} ">"'), "<[12]>"),
)
PARAMETERS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.0},
    {"ignore_eos": True},
    {"min_tokens": 40},
    {"logit_bias": tuple((i, -np.inf) for i in range(1000))},
    {"logit_bias": tuple((i, 100.0) for i in range(300)), "temperature": 0.0},
    {"repetition_penalty": 1.5, "presence_penalty": 1.0, "top_k": 3, "top_p": 0.5},
)


def test_a_grammar_wins_over_every_other_parameter(tiny_model: Path, kind: EngineKind) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            for sampling in PARAMETERS:
                constraints = [constraint for constraint, _ in SHAPES]
                found = await answers(e, [*constraints, None], **sampling)
                for (_, shape), answer in zip(SHAPES, found, strict=False):
                    assert re.fullmatch(shape, answer.text), (sampling, answer)
                    assert answer.reason is FinishReason.STOP

    run(test)


def test_the_end_is_withheld_as_long_as_something_else_may_come(
    tiny_model: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            digits = Constraint(ConstraintKind.REGEX, "[0-9]+")
            (answer,) = await answers(e, [digits], min_tokens=20, max_tokens=40, temperature=0.0)
            assert len(answer.ids) >= 20

    run(test)


def test_a_seed_gives_the_same_answers_whatever_else_runs(
    tiny_model: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            alone = [(await answers(e, [schema(DEMO)], seed=seed))[0] for seed in range(4)]
            for seed in range(4):
                crowd = await answers(e, [schema(DEMO), None, CITY, schema(DEMO)], seed=seed)
                assert crowd[0].ids == crowd[3].ids == alone[seed].ids
            assert len({answer.ids for answer in alone}) > 1

    run(test)


def test_log_probabilities_stay_the_models_own(tiny_model: Path, kind: EngineKind) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            (answer,) = await answers(e, [CITY], logprobs=0)
            assert len(answer.logprobs) == len(answer.ids)
            assert all(-20 < logprob < -1 for logprob in answer.logprobs), "no rescaled ones"

    run(test)


def test_it_begins_after_the_reasoning(tiny_model: Path, kind: EngineKind) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            (task,) = await prepared(e, [CITY], max_tokens=30)
            free = TokenTask(
                request_id="r", prompt_ids=(5, 6, 7), sampling=task.sampling, max_tokens=6
            )
            ids = (await finished(e, replace(free, sampling=replace(free.sampling, seed=5)))).ids
            assert task.new_rule is not None
            rule = task.new_rule

            def late() -> AfterReasoning:
                return AfterReasoning(rule(), None, ids[2:4], is_inside=True)

            seeded = replace(task, sampling=replace(task.sampling, seed=5), new_rule=late)
            answer = await finished(e, seeded)
            assert answer.ids[:4] == ids[:4]
            said = model_of(e).tokenizer.decode(answer.ids[4:])
            assert said in CITY.source
            assert answer.reason is FinishReason.STOP

    run(test)


def test_a_model_without_an_end_token_ends_with_its_document(
    tiny_model: Path, tmp_path: Path, kind: EngineKind
) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(tiny_model, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        written = json.loads((folder / name).read_text())
        written.pop("eos_token_id", None)
        written.pop("eos_token", None)
        (folder / name).write_text(json.dumps(written))

    async def test() -> None:
        async with engine(folder, kind) as e:
            assert not model_of(e).eos_ids
            found = await answers(e, [CITY, schema({"const": {"a": 1}})])
            assert [answer.reason for answer in found] == [FinishReason.STOP] * 2
            assert found[0].text in CITY.source
            assert json.loads(found[1].text) == {"a": 1}

    run(test)


def test_whitespace_cannot_run_away_and_both_spacings_can_come(
    tiny_model: Path, kind: EngineKind
) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            tokenizer = model_of(e).tokenizer
            spaces = tuple(
                (i, 100.0)
                for i in range(tokenizer.vocab_size)
                if tokenizer.spelling(i).utf8.strip() == b""
            )
            found = await answers(e, [schema(DEMO)] * 4, logit_bias=spaces, max_tokens=200)
            written = [re.sub(r'"[^"]*"', '""', answer.text) for answer in found]
            assert all("  " not in text and "\n" not in text for text in written)
            assert any(": " in text for text in written)

    run(test)


ENDLESS = Constraint(ConstraintKind.REGEX, "[a-z ]{900,}")


@pytest.mark.parametrize("is_closed", [False, True])
def test_an_answer_in_a_form_that_is_not_wanted_any_more_ends_once(
    tiny_model: Path, kind: EngineKind, is_closed: bool
) -> None:
    async def test() -> None:
        async with engine(tiny_model, kind) as e:
            [task] = await prepared(e, [ENDLESS], max_tokens=900)
            mailbox = Mailbox(asyncio.get_running_loop())
            done = asyncio.Event()
            job = Job(task, mailbox, on_done=done.set)
            e.start(job)
            while not isinstance(await mailbox.next(), Delta):
                pass
            if is_closed:
                await e.close()
            else:
                job.cancel()
            event = await mailbox.next()
            while isinstance(event, Delta):
                event = await mailbox.next()
            assert isinstance(event, Cancelled)
            await done.wait()
            assert e.stats().running == 0
            assert not mailbox.post(event), "nothing comes after the last event"
            if not is_closed:
                [answer] = await answers(e, [CITY])
                assert answer.reason is FinishReason.STOP, "and others are served"

    run(test)
