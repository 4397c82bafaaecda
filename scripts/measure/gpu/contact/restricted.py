"""Answers in a required form, forbidden tokens and scored prompts: the engine on the device against
transformers' `generate` on it, token by token."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from make_model import make_model
from random_models.presets import PRESETS

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Cancelled,
    Constraint,
    ConstraintKind,
    Delta,
    EngineKind,
    Failed,
    Finish,
    FinishReason,
    GenerationRequest,
    ModelSpec,
    PromptLogprobs,
    SamplingFields,
)
from llmserve.engines.engine import Generator
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import Task
from measure.gpu.contact.equality import prompts_of, small_engine

PRESET: Final = "tiny-llama"
CLOSE: Final = 1e-3
"""By how much log probabilities may differ: two ways to add the same numbers up."""

PERSON: Final = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMA: Final = Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(PERSON))
CITY: Final = Constraint(ConstraintKind.CHOICE, '["Paris", "Rome", "Oslo"]')
DIGITS: Final = Constraint(ConstraintKind.REGEX, "[0-9]{3}-[0-9]{4}")
GREEDY: Final = SamplingFields(temperature=0.0, max_tokens=48)
SAMPLED: Final = replace(GREEDY, temperature=1.0)
SCORED: Final = replace(GREEDY, max_tokens=4, prompt_logprobs=3)

ASKED: Final[tuple[tuple[str, SamplingFields, Constraint | None], ...]] = (
    ("JSON schema", GREEDY, SCHEMA),
    ("choice", GREEDY, CITY),
    ("regular expression", GREEDY, DIGITS),
    ("choice with a penalty", replace(GREEDY, repetition_penalty=1.3), CITY),
    ("choice with a bias", replace(GREEDY, logit_bias=((5, 50.0),)), CITY),
    ("choice, sampled", SAMPLED, CITY),
    ("JSON schema, log probabilities", replace(GREEDY, logprobs=2), SCHEMA),
    ("allowed tokens", replace(GREEDY, allowed_token_ids=(40, 41, 300), ignore_eos=True), None),
    ("bad words", replace(GREEDY, bad_words=("a", "the")), None),
    ("scored prompt", SCORED, None),
    ("nothing", GREEDY, None),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said to one request.

    Attributes:
        scores: log probabilities of the prompt's tokens, if asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    reason: FinishReason
    scores: tuple[float, ...]


def main(argv: list[str]) -> int:
    """`restricted [DEVICE]`."""
    device = argv[0] if argv else "cuda:0"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PRESET
        make_model(PRESET, path)
        spec = ModelSpec(PRESET, path=path, dtype="float32", device=device)
        expected = asyncio.run(_answers(replace(spec, engine=EngineKind.THREADED), path))
        actual = asyncio.run(_answers(replace(spec, engine=EngineKind.BATCHING), path))
    failed = 0
    for (name, sampling, constraint), one, other in zip(ASKED, expected, actual, strict=True):
        differs = None if sampling is SAMPLED else difference(one, other)
        fault = differs or (constraint and breach(constraint, other))
        failed += fault is not None
        told = "of its form" if sampling is SAMPLED else "equal"
        said = f"{len(other.token_ids)} tokens, {len(other.scores)} scored, {other.reason}"
        print(f"=> {name}: {fault or told} ({said})", flush=True)
    return 1 if failed else 0


def difference(expected: Answer, actual: Answer) -> str | None:
    """What is not the same, or nearly so for scores."""
    if (expected.token_ids, expected.reason) != (actual.token_ids, actual.reason):
        return f"NOT EQUAL: {expected.text!r} and {actual.text!r}"
    apart = max(
        (abs(a - b) for a, b in zip(expected.scores, actual.scores, strict=True)), default=0.0
    )
    return f"NOT EQUAL: scores differ by {apart}" if apart > CLOSE else None


def breach(constraint: Constraint, answer: Answer) -> str | None:
    """What is wrong with the form of a whole answer."""
    if answer.reason is FinishReason.LENGTH:
        return None
    if constraint is CITY and answer.text not in json.loads(CITY.source):
        return f"NOT A CHOICE: {answer.text!r}"
    if constraint is SCHEMA and set(json.loads(answer.text)) != set(PERSON["properties"]):
        return f"NOT OF THE SCHEMA: {answer.text!r}"
    return None


async def _answers(spec: ModelSpec, path: Path) -> list[Answer]:
    """All at once, in one batch, with prompts of many lengths."""
    prompts = prompts_of(PRESETS[PRESET].config().vocab_size)
    requests = [
        GenerationRequest(
            name,
            tuple(prompts[-1 - number % len(prompts)]),
            sampling=sampling,
            constraint=constraint,
        )
        for number, (name, sampling, constraint) in enumerate(ASKED)
    ]
    engine = small_engine(spec, path)
    try:
        await engine.load(lambda progress: None)
        tasks = await engine.prepare(requests, Caller(), awake_clock() + 60, lambda: lambda: None)
        return list(await asyncio.gather(*(_answer(engine, task) for task in tasks)))
    finally:
        await engine.close()


async def _answer(engine: Generator, task: Task) -> Answer:
    mailbox = Mailbox(asyncio.get_running_loop())
    done = asyncio.Event()
    engine.start(Job(task, mailbox, on_done=done.set))
    deltas: list[Delta] = []
    scores: list[float] = []
    while True:
        event: Any = await mailbox.next()
        if isinstance(event, Delta):
            deltas.append(event)
        elif isinstance(event, PromptLogprobs):
            scores += [token.logprob for token in event.tokens]
        elif isinstance(event, Finish):
            await done.wait()
            text = "".join(delta.text for delta in deltas)
            token_ids = tuple(i for delta in deltas for i in delta.token_ids)
            return Answer(text, token_ids, event.reason, tuple(scores))
        elif isinstance(event, Failed | Cancelled):
            raise RuntimeError(f"the engine answered {event}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
