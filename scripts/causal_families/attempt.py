"""One family: a tiny model in a folder, the engine that the server would choose for it, and whether
that engine says what the model's own `generate` says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from random_models.tokenizer import build_tokenizer
from random_models.weights import random_model
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig

from causal_families.outcome import EXACT, Outcome
from causal_families.small_config import CONTEXT, small_config
from llmserve.domain import Cancelled, Delta, Failed, Finish, ModelSpec, SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.errors import LLMServeError

VOCAB: Final = 1536
LENGTHS: Final = (1, 3, 17, 40, 71, 130, 24)
NEW_TOKENS: Final = 20
ROUNDING: Final = 0.01
"""The most by which log probabilities differ in float32."""
TIE: Final = 1e-4
"""Tokens whose log probabilities differ by less are as likely; what follows is not compared."""
OPTIONS: Final[dict[str, Any]] = {
    "max_running": 4,  # so that some wait, join and take over blocks
    "torch_threads": 1,
    "kv_cache_bytes": 32 << 20,
    "block_size": 8,
    "max_tokens_per_step": 48,  # so that prompts are read in pieces
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Tokens, and the log probability of each."""

    tokens: list[int]
    logprobs: list[float]


def attempt(
    family: str, folder: Path, lengths: Sequence[int] = LENGTHS, new_tokens: int = NEW_TOKENS
) -> Outcome:
    """Try a family with prompts of these lengths; whatever goes wrong is told in the outcome.
    `folder` is empty."""
    try:
        config = small_config(family)
        _save(config, folder)
    # Classes of transformers raise whatever they like, and so do models below.
    except Exception as error:
        return Outcome(family, "none", f"no tiny model: {_told(error)}")
    prompts = _prompts(lengths)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        expected = [_generated(model, prompt, new_tokens) for prompt in prompts]
    except Exception as error:
        return Outcome(family, "none", f"its own `generate` fails: {_told(error)}")
    del model
    try:
        kind, why, actual = asyncio.run(_served(folder, prompts, new_tokens))
    except LLMServeError as error:
        return Outcome(family, "none", _told(error))
    equality = compared(prompts, expected, actual)
    return Outcome(family, kind, why, equality)


def _save(config: PretrainedConfig, folder: Path) -> None:
    random_model(config, seed=0).save_pretrained(folder)
    build_tokenizer(VOCAB, CONTEXT).save_pretrained(folder)


def _prompts(lengths: Sequence[int]) -> list[list[int]]:
    """Random tokens; the last prompt continues the longest one."""
    numbers = random.Random(5)
    prompts = [[numbers.randrange(4, VOCAB) for _ in range(length)] for length in lengths]
    return [*prompts, [*max(prompts, key=len), 7, 8, 9]]


@torch.inference_mode()
def _generated(model: Any, prompt: Sequence[int], new_tokens: int) -> Answer:
    ids = torch.tensor([prompt])
    # What the config says of an end is not to be heard.
    model.generation_config = GenerationConfig(pad_token_id=0)
    told = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = told.sequences[0, len(prompt) :]
    logprobs = torch.cat(told.logits).float().log_softmax(-1)
    return Answer(tokens.tolist(), logprobs.gather(1, tokens[:, None])[:, 0].tolist())


async def _served(
    folder: Path, prompts: Sequence[Sequence[int]], new_tokens: int
) -> tuple[str, str, list[Answer | str]]:
    """Which engine was chosen, why, and each prompt's answer or error."""
    spec = ModelSpec("tiny", path=folder, dtype="float32", device="cpu")
    engine = build_engine(spec, EngineOptions(lambda spec, report: folder, **OPTIONS))
    assert isinstance(engine, Generator), "a causal language model that encodes"
    try:
        await engine.load(lambda progress: None)
        *first, last = prompts
        places = asyncio.Semaphore(engine.capacity)
        ask = partial(_answer, engine, places, new_tokens)
        answers = [*await asyncio.gather(*map(ask, first)), await ask(last)]
        return engine.info.kind.value, engine.info.why, answers
    finally:
        await engine.close()


async def _answer(
    engine: Generator, places: asyncio.Semaphore, new_tokens: int, prompt: Sequence[int]
) -> Answer | str:
    task = TokenTask(
        request_id="family",
        prompt_ids=tuple(prompt),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True, logprobs=0),
        max_tokens=new_tokens,
    )
    answer = Answer([], [])
    async with places:
        done = asyncio.Event()
        job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=done.set)
        engine.start(job)
        while not isinstance(event := await job.mailbox.next(), Finish | Failed | Cancelled):
            if isinstance(event, Delta):
                answer.tokens.extend(event.token_ids)
                answer.logprobs.extend(token.logprob for token in event.logprobs)
        await done.wait()
    return event.error.message if isinstance(event, Failed) else answer


def compared(
    prompts: Sequence[Sequence[int]], expected: Sequence[Answer], actual: Sequence[Answer | str]
) -> str:
    """`exact`, or the first difference."""
    for prompt, wanted, told in zip(prompts, expected, actual, strict=True):
        where = f"a prompt of {len(prompt)} tokens"
        if isinstance(told, str):
            return f"{where}: {told}"
        same = len(wanted.tokens)
        if told.tokens != wanted.tokens:
            pairs = enumerate(zip(wanted.tokens, told.tokens, strict=False))
            same = next((n for n, (a, b) in pairs if a != b), len(told.tokens))
            if not _is_tie(wanted, told, same):
                return f"{where}: token {same + 1} differs"
        gaps = [abs(a - b) for a, b in zip(wanted.logprobs, told.logprobs, strict=False)][:same]
        wide = [gap for gap in gaps if not gap <= ROUNDING]  # NaN is
        if wide:
            return f"{where}: log probabilities differ by {wide[0]:.2g}"
    return EXACT


def _is_tie(wanted: Answer, told: Answer, place: int) -> bool:
    """Whether two tokens were as likely, and rounding chose."""
    if len(told.tokens) != len(wanted.tokens):
        return False
    return abs(wanted.logprobs[place] - told.logprobs[place]) <= TIE


def _told(error: Exception) -> str:
    """On one line, and not too long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
