"""Kernels that transformers gets from the hub: fetched while a model is loaded, never later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

from loguru import logger
from transformers.integrations import hub_kernels
from transformers.integrations.gguf import kernels as gguf_kernels
from transformers.utils import is_kernels_available
from transformers.utils.import_utils import KERNELS_MAX_VERSION, KERNELS_MIN_VERSION

from llmserve.errors import ModelBroken

_may_fetch: Final[ContextVar[bool]] = ContextVar("may_fetch", default=False)
_get_kernel: Final = hub_kernels.get_kernel


def fetch_kernels(model: str, names: Sequence[str]) -> None:
    """Get the kernels that a model's weights need, from this machine's cache or from the hub.

    Raises:
        ModelBroken: the first cannot be had; says why. The others only make it faster.
    """
    without = "or set dequantize = true in its model.toml to expand its weights"
    if not is_kernels_available():
        raise ModelBroken(
            f"model {model!r} needs kernels from the hub to compute with packed weights; install "
            f"'kernels>={KERNELS_MIN_VERSION},<{KERNELS_MAX_VERSION}', {without}"
        )
    for number, name in enumerate(names):
        try:
            with fetching():
                _fetch(name)
        # The hub is out of reach, has no build for this machine, or the build does not load.
        except Exception as error:
            if number == 0:
                raise ModelBroken(
                    f"model {model!r} needs the kernels {name!r}, which cannot be had from the hub "
                    f"or its cache on this machine: {type(error).__name__}: {error}; fetch them "
                    f"where the hub can be reached, {without}"
                ) from error
            logger.info("model {}: it does without the kernels {!r}: {}", model, name, error)


@contextlib.contextmanager
def fetching() -> Iterator[None]:
    """What this thread loads meanwhile may come from the hub."""
    token = _may_fetch.set(True)
    try:
        yield
    finally:
        _may_fetch.reset(token)


def close_to_requests() -> None:
    """From now on a kernel that was not fetched at load is one that is not there: transformers
    would otherwise ask the hub for some in the middle of a request."""
    hub_kernels.get_kernel = _guarded
    gguf_kernels.kernelize_ggml_layers = _untouched  # those are for Apple's GPUs


def _fetch(name: str) -> None:
    if "/" in name:
        hub_kernels.get_kernel(name, version=1)
    elif hub_kernels.lazy_load_kernel(name) is None:
        raise FileNotFoundError("it is not there")


def _guarded(kernel_name: str, *args: Any, **kwargs: Any) -> Any:
    if not _may_fetch.get():
        raise FileNotFoundError(f"{kernel_name} is fetched while a model is loaded, or not at all")
    return _get_kernel(kernel_name, *args, **kwargs)


def _untouched(model: Any) -> None:
    return None
