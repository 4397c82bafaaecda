"""Greedy tokens of the whole engine against transformers' `generate`, family by family, in float32.

A family goes the server's way: load_model, cache_shape, build_computation, StepLoop.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from make_model import make_model
from random_models.presets import PRESETS
from transformers import GenerationConfig

from llmserve.domain import Cancelled, Delta, Failed, Finish, ModelSpec, SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.engines.weights.loading import load_model

LENGTHS = (1, 3, 17, 40, 70, 150, 333)
NEW_TOKENS = 24
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


def main(argv: list[str]) -> int:
    """`equality [--share I/N] [device]`: every tiny preset, or each N-th of them."""
    share, total = (int(part) for part in (argv[0] if argv else "0/1").split("/"))
    device = argv[1] if len(argv) > 1 else "cuda:0"
    dtype = argv[2] if len(argv) > 2 else "float32"
    names = [name for name, preset in PRESETS.items() if preset.is_tiny][share::total]
    failed = 0
    for name in names:
        begun = time.monotonic()
        try:
            told = _family(name, device, dtype)
        except Exception:
            traceback.print_exc()
            told, is_equal = "raised " + traceback.format_exc().strip().splitlines()[-1], False
        else:
            is_equal = told.startswith("equal")
        failed += not is_equal
        print(f"=> {name}: {told} ({time.monotonic() - begun:.1f} s)", flush=True)
    return 1 if failed else 0


def _family(name: str, device: str, dtype: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        make_model(name, path)
        spec = ModelSpec(name, path=path, dtype=dtype, device=device)
        prompts = prompts_of(PRESETS[name].config().vocab_size)
        expected = _expected(spec, path, prompts)
        why, actual = asyncio.run(_actual(spec, path, prompts))
    wrong = [
        f"prompt of {len(prompt)} tokens differs from answer token {_first(one, other)}"
        for prompt, one, other in zip(prompts, expected, actual, strict=True)
        if one != other
    ]
    return f"equal; {why}" if not wrong else f"NOT EQUAL: {'; '.join(wrong)}; {why}"


def _first(one: list[int], other: list[int]) -> int:
    return next((n for n, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), -1)  # noqa: B905


def prompts_of(vocab: int) -> list[list[int]]:
    """Random prompts of `LENGTHS`, the same each time, and one that begins like another."""
    numbers = random.Random(7)
    own = [[numbers.randrange(4, vocab) for _ in range(length)] for length in LENGTHS]
    return [*own, own[4] + [9, 9]]


@torch.inference_mode()
def _expected(spec: ModelSpec, path: Path, prompts: list[list[int]]) -> list[list[int]]:
    loaded = load_model(spec, path, lambda progress: None)
    config = GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=loaded.pad_id, use_cache=True
    )
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=loaded.device)
        whole = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
        answers.append(whole[0, len(prompt) :].tolist())
    return answers


async def _actual(
    spec: ModelSpec, path: Path, prompts: list[list[int]]
) -> tuple[str, list[list[int]]]:
    engine = small_engine(spec, path)
    try:
        await engine.load(lambda progress: None)
        answers = await asyncio.gather(*(answer(engine, prompt) for prompt in prompts))
        return engine.info.why, list(answers)
    finally:
        await engine.close()


def small_engine(spec: ModelSpec, path: Path) -> Generator:
    """An engine for this folder with a small cache and small steps, not loaded yet."""
    return build_engine(
        spec,
        EngineOptions(
            lambda spec, report: path,
            max_running=16,
            kv_cache_bytes=32 * 2**20,
            max_tokens_per_step=128,
        ),
    )


async def answer(engine: Generator, prompt: list[int], adapter: str | None = None) -> list[int]:
    """The greedy tokens that an engine gives.

    Raises:
        RuntimeError: it fails.
    """
    mailbox = Mailbox(asyncio.get_running_loop())
    done = asyncio.Event()
    task = TokenTask(
        request_id="contact",
        prompt_ids=tuple(prompt),
        sampling=GREEDY,
        max_tokens=NEW_TOKENS,
        adapter=adapter,
    )
    engine.start(Job(task, mailbox, on_done=done.set))
    token_ids: list[int] = []
    while True:
        event = await mailbox.next()
        if isinstance(event, Delta):
            token_ids += event.token_ids
        elif isinstance(event, Finish):
            await done.wait()
            return token_ids
        elif isinstance(event, Failed | Cancelled):
            raise RuntimeError(f"the engine answered {event}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
