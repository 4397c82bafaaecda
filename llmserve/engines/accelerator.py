"""Makes a device a thread's current one, and checks whether it still computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from loguru import logger

from llmserve.errors import DeviceLost


def make_current(device: torch.device) -> None:
    """Make a GPU the calling thread's current device; every thread that launches kernels does so.

    torch switches to a tensor's device by itself. Triton, CUDA graphs and synchronisation take
    the current device, which is the first GPU in each new thread.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)


def answers(device: torch.device) -> bool:
    """Whether the device still computes; checked after something failed on it.

    The type of an error does not say: an illegal access in a kernel breaks the context for good, a
    launch that asks for too much does not, and libraries raise plain `RuntimeError` for both.
    """
    if device.type == "cpu":
        return True
    try:
        torch.ones(1, device=device).item()
    except torch.OutOfMemoryError:
        return True
    except RuntimeError as error:
        logger.error("{} no longer answers: {}", device, error)
        return False
    return True


@contextlib.contextmanager
def as_device_loss(device: torch.device) -> Iterator[None]:
    """While a model is loaded: turns any exception into `DeviceLost` if the device no longer
    answers."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DeviceLost) or answers(device):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise DeviceLost(
            f"{device} no longer answers ({type(error).__name__}: {reason}); "
            "its worker has to be replaced"
        ) from error
