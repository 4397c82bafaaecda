"""What a model raised, in our words, and its memory given back."""

from __future__ import annotations

import gc

import torch
from loguru import logger

from llmserve.errors import GenerationFailed, LLMServeError, OutOfMemory


def as_failure(error: Exception) -> LLMServeError:
    """Our error for anything that a model may raise; what is not ours is logged."""
    if isinstance(error, LLMServeError):
        return error
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        logger.error("out of memory in generate: {}", error)
        return OutOfMemory(
            "the device ran out of memory during this request; shorten the prompt or try later",
            retry_after_seconds=5.0,
        )
    logger.exception("generate raised")
    return GenerationFailed(f"the model failed while generating ({type(error).__name__})")


def release_memory() -> None:
    """Collect cycles, and give the device what torch keeps for later. Never raises: it is called
    where something failed already, on a device that may be lost."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own stub
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            logger.error("the memory that torch keeps cannot be given back: {}", error)
