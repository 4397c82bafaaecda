"""Turns what a model raised into our errors, and releases its memory."""

from __future__ import annotations

import gc

import torch
from loguru import logger

from llmserve.errors import GenerationFailed, LLMServeError, OutOfMemory


def as_failure(error: Exception, doing: str = "generating") -> LLMServeError:
    """Our error for anything that a model may raise; others' exceptions are logged."""
    if isinstance(error, LLMServeError):
        return error
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        logger.error("out of memory while {}: {}", doing, error)
        return OutOfMemory(
            "the device ran out of memory during this request; shorten the prompt or try later",
            retry_after_seconds=5.0,
        )
    logger.exception("{} raised", doing)
    return GenerationFailed(f"the model failed while {doing} ({type(error).__name__})")


def no_numbers() -> GenerationFailed:
    """The model computed NaN."""
    return GenerationFailed("the model's logits are not numbers; the checkpoint may be damaged")


def release_memory() -> None:
    """Collect reference cycles, and return torch's cached memory to the device.

    Never raises: it is called after a failure, when the device may be lost.
    """
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own stub
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            logger.error("torch's cached memory cannot be released: {}", error)
