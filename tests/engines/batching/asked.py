"""Jobs of an engine, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmserve.domain import (
    Cancelled,
    Delta,
    EngineKind,
    Event,
    Failed,
    Finish,
    ModelSpec,
    SamplingParams,
)
from llmserve.engines.engine import Generator
from llmserve.engines.factory import build_engine
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.options import EngineOptions
from llmserve.engines.task import TokenTask
from llmserve.text.tokenizer import Tokenizer

GREEDY = {"temperature": 0.0, "ignore_eos": True}


@contextlib.asynccontextmanager
async def engine_of(
    folder: Path,
    kind: EngineKind = EngineKind.AUTO,
    *,
    told: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> AsyncIterator[Generator]:
    """`told`: what its `ModelSpec` says besides."""
    fields: dict[str, Any] = {"dtype": "float32", "device": "cpu", "engine": kind}
    spec = ModelSpec("tiny", path=folder, **fields | dict(told))
    wanted: dict[str, Any] = {"max_running": 8, "torch_threads": 1}
    engine = build_engine(spec, EngineOptions(lambda spec, report: folder, **wanted | options))
    try:
        await engine.load(lambda progress: None)
        yield engine
    finally:
        await engine.close()


def tokenizer_of(folder: Path) -> Tokenizer:
    return Tokenizer(AutoTokenizer.from_pretrained(folder))


class Asked:
    """A job and what was told of it."""

    def __init__(
        self,
        engine: Generator,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        salt: str = "",
        adapter: str | None = None,
        is_background: bool = False,
        shown_tokens: frozenset[int] = frozenset(),
        **params: Any,
    ):
        self.done = asyncio.Event()
        sampling = SamplingParams(**GREEDY | params)
        task = TokenTask(
            request_id="id",
            prompt_ids=tuple(prompt),
            sampling=sampling,
            max_tokens=max_tokens,
            is_background=is_background,
            cache_salt=salt,
            shown_tokens=shown_tokens,
            adapter=adapter,
        )
        self.job = Job(task, Mailbox(asyncio.get_running_loop()), on_done=self.done.set)
        engine.start(self.job)

    async def events(self) -> list[Event]:
        told: list[Event] = []
        while not (told and isinstance(told[-1], Finish | Failed | Cancelled)):
            told.append(await self.job.mailbox.next())
        await self.done.wait()
        return told

    async def tokens(self) -> list[int]:
        return [
            i for event in await self.events() if isinstance(event, Delta) for i in event.token_ids
        ]


def generated(folder: Path, prompt: Sequence[int], count: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    with torch.inference_mode():
        whole = model.generate(ids, do_sample=False, max_new_tokens=count, pad_token_id=0)
    return list(whole[0, len(prompt) :].tolist())
