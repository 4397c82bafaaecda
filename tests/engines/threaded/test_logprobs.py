"""Log probabilities of `generate`: the model's own, one entry for each token, whatever is held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmserve.domain import (
    Cancelled,
    Delta,
    Event,
    Failed,
    Finish,
    FinishReason,
    ModelSpec,
    SamplingParams,
    TokenLogprobs,
)
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.engines.threaded.engine import ThreadedEngine
from llmserve.engines.threaded.logprobs import LogprobsTap

pytestmark = pytest.mark.usefixtures("no_thread_left")

PROMPT = tuple(range(300, 312))


class Heard:
    """Stands where the bridge would be."""

    def __init__(self) -> None:
        self.tokens: list[tuple[int, TokenLogprobs | None]] = []
        self.is_over = False

    def accept(self, token_id: int, logprobs: TokenLogprobs | None = None) -> None:
        self.tokens.append((token_id, logprobs))

    def end(self) -> None:
        self.is_over = True


def tap(num_top: int) -> tuple[LogprobsTap, Heard]:
    heard = Heard()
    return LogprobsTap(heard, num_top), heard  # type: ignore[arg-type]  # all it needs of a bridge


def test_a_vocabulary_smaller_than_the_number_asked_for_is_told_whole() -> None:
    seen, heard = tap(20)
    seen(torch.zeros(1, 1), torch.tensor([[0.0, 1.0, -torch.inf]]))
    seen.put(torch.tensor([1]))
    [(token_id, told)] = heard.tokens
    assert told is not None
    assert (token_id, [i for i, _ in told.top]) == (1, [1, 0, 2])
    assert told.top[2] == (2, -torch.inf)


def test_the_prompt_is_no_token() -> None:
    seen, heard = tap(0)
    seen.put(torch.tensor([[5, 6, 7]]))
    seen.end()
    assert (heard.tokens, heard.is_over) == ([], True)


def test_the_scores_pass_unchanged() -> None:
    seen, _ = tap(2)
    scores = torch.randn(1, 9)
    before = scores.clone()
    assert seen(torch.zeros(1, 1), scores) is scores
    assert torch.equal(scores, before)


def test_a_token_that_is_streamed_a_step_late_has_its_own_steps_numbers() -> None:
    seen, heard = tap(1)
    steps = [torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[9.0, 0.0, 0.0]])]
    for step in steps:
        seen(torch.zeros(1, 1), step)
    for token_id in (1, 0):
        seen.put(torch.tensor([token_id]))
    told = [one for _, one in heard.tokens if one is not None]
    assert [one.top[0][0] for one in told] == [1, 0]
    assert all(one.logprob == one.top[0][1] for one in told)


def events_of(folder: Path, sampling: SamplingParams, max_tokens: int = 10) -> list[Event]:
    """Of one job on an engine of its own."""
    return asyncio.run(asyncio.wait_for(_events_of(folder, sampling, max_tokens), 60))


async def _events_of(folder: Path, sampling: SamplingParams, max_tokens: int) -> list[Event]:
    engine = ThreadedEngine(
        ModelSpec("tiny", path=folder),
        EngineOptions(lambda spec, on_progress: folder, max_running=1, torch_threads=1),
        why="test",
    )
    try:
        await engine.load(lambda progress: None)
        mailbox, done = Mailbox(asyncio.get_running_loop()), asyncio.Event()
        task = TokenTask(
            request_id="r", prompt_ids=PROMPT, sampling=sampling, max_tokens=max_tokens
        )
        engine.start(Job(task, mailbox, on_done=done.set))
        received = [await mailbox.next()]
        while not isinstance(received[-1], Finish | Failed | Cancelled):
            received.append(await mailbox.next())
        await done.wait()
        return received
    finally:
        await engine.close()


def deltas(events: Sequence[Event]) -> list[Delta]:
    return [event for event in events if isinstance(event, Delta)]


def told_in(events: Sequence[Event]) -> list[TokenLogprobs]:
    return [one for delta in deltas(events) for one in delta.logprobs]


def expected(folder: Path, ids: Sequence[int]) -> torch.Tensor:
    """By transformers alone: what it thinks of each token after the prompt, (num_tokens, vocab)."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPT, *ids]])).logits[0]
    return logits[len(PROMPT) - 1 : -1].float().log_softmax(-1)


def test_nobody_asked_and_nobody_is_told(tiny_model: Path) -> None:
    events = events_of(tiny_model, SamplingParams(temperature=0.0, ignore_eos=True))
    assert deltas(events)
    assert told_in(events) == []


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=1.3, seed=5, top_k=50, top_p=0.9),
        SamplingParams(
            temperature=0.0,
            repetition_penalty=1.7,
            frequency_penalty=1.5,
            presence_penalty=-1.0,
            logit_bias=((7, 100.0), (300, -100.0)),
        ),
    ],
)
def test_they_are_the_models_own_whatever_the_sampling(
    tiny_model: Path, sampling: SamplingParams
) -> None:
    asked = replace(sampling, logprobs=3, ignore_eos=True)
    events = events_of(tiny_model, asked)
    told = told_in(events)
    ids = [i for delta in deltas(events) for i in delta.token_ids]
    assert [one.token_id for one in told] == ids
    assert len(ids) == 10
    logprobs = expected(tiny_model, ids)
    for row, one in zip(logprobs, told, strict=True):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=1e-4)
        values = row.topk(3).values.tolist()
        assert [value for _, value in one.top] == pytest.approx(values, abs=1e-4)
        assert [value for _, value in one.top] == pytest.approx(
            [float(row[i]) for i, _ in one.top], abs=1e-4
        )


def test_asking_changes_no_token(tiny_model: Path) -> None:
    def ids(logprobs: int | None) -> list[int]:
        sampling = SamplingParams(seed=3, ignore_eos=True, logprobs=logprobs)
        events = events_of(tiny_model, sampling)
        return [i for delta in deltas(events) for i in delta.token_ids]

    assert ids(5) == ids(None)


def test_a_token_whose_text_is_held_back_still_has_its_entry(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    lead = tokenizer.convert_tokens_to_ids("ð")  # 0xF0, the first byte of an emoji
    sampling = SamplingParams(
        temperature=0.0, ignore_eos=True, logprobs=0, logit_bias=((lead, 100.0),)
    )
    events = events_of(tiny_model, sampling, max_tokens=3)
    assert [delta.text for delta in deltas(events) if delta.text] == ["\ufffd\ufffd\ufffd"]
    assert [one.token_id for one in told_in(events)] == [lead] * 3


def test_the_tokens_of_a_stop_string_have_their_entries(tiny_model: Path) -> None:
    free = SamplingParams(temperature=0.0, ignore_eos=True, logprobs=0)
    text = "".join(delta.text for delta in deltas(events_of(tiny_model, free)))
    events = events_of(tiny_model, replace(free, stop=(text[3:12],)))
    last = events[-1]
    assert isinstance(last, Finish)
    assert last.reason is FinishReason.STOP
    assert len(told_in(events)) == last.usage.completion_tokens


def test_the_end_token_is_no_token_of_the_answer(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sampling = SamplingParams(
        temperature=0.0, logprobs=2, logit_bias=((tokenizer.eos_token_id, 100.0),)
    )
    events = events_of(tiny_model, sampling)
    assert told_in(events) == []
    assert isinstance(events[-1], Finish)
    assert events[-1].usage.completion_tokens == 1
