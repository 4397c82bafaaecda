"""What an engine generates before anyone asks it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from loguru import logger

from llmserve.domain import ModelSpec, SamplingParams
from llmserve.engines.engine import Generator
from llmserve.engines.task import TokenTask
from llmserve.errors import DeviceLost, LLMServeError, ModelBroken, ModelUnloaded, OutOfMemory

if TYPE_CHECKING:
    from llmserve.engines.weights.loading import LoadedModel

WARMUP_TOKENS: Final = 8
DEFAULT_WARMUP: Final = ("Hello",)


def warm_up_task(loaded: LoadedModel, prompt: str) -> TokenTask:
    """A few greedy tokens after a prompt, which is cut where it is too long."""
    room = max(1, loaded.max_context - WARMUP_TOKENS)
    return TokenTask(
        request_id="warm-up",
        prompt_ids=tuple(loaded.tokenizer.encode(prompt)[:room]) or (loaded.pad_id,),
        sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        max_tokens=min(WARMUP_TOKENS, loaded.max_context - 1),
    )


async def warm_up(generator: Generator, spec: ModelSpec, is_lost: Callable[[], bool]) -> None:
    """The last stage of loading: first tokens, and the prefixes that the manifest pins.

    `is_lost` tells whether the device still computes. A model whose prefixes cannot be kept is
    slower, not broken.

    Raises:
        ModelBroken: the model cannot generate.
        DeviceLost: its device does not answer any more.
        ModelUnloaded: the engine was closed meanwhile.
    """
    try:
        await generator.warm(spec.warmup_prompts or DEFAULT_WARMUP, ())
    except ModelUnloaded:
        raise
    except LLMServeError as error:
        raise (DeviceLost if is_lost() else ModelBroken)(
            f"model {spec.name!r} loaded but cannot generate: {error.message}"
        ) from error
    try:
        report = await generator.warm((), spec.warmup_prefixes)
    except OutOfMemory as error:
        logger.warning("model {}: no more prefixes are pinned: {}", spec.name, error.message)
        return
    for problem in filter(None, report.prefix_problems):
        logger.warning("model {}: a prefix is not pinned: {}", spec.name, problem)
