"""What computes the recurrent states of a model: transformers takes a package's kernels where it is
installed, and its own torch code elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from llmserve.engines.batching.compute.state_pool import StateShape

_DISTRIBUTIONS: Final = {
    "fla": "flash-linear-attention",
    "causal_conv1d": "causal-conv1d",
    "mamba_ssm": "mamba-ssm",
}
"""As they are installed, by what is imported."""


def state_kernels(model: Any, states: Iterable[StateShape]) -> str:
    """For the description: which packages compute states, and which are missing."""
    files = {type(model.get_submodule(name)).__module__ for name in {s.module for s in states}}
    found = [choice for file in files for choice in _choices(file)]
    used = sorted({package for package, is_used in found if is_used})
    missing = sorted({package for package, is_used in found if not is_used} - set(used))
    parts = " and ".join([*used, "torch"] if missing or not used else used)
    reason = f" ({' and '.join(missing)} not installed)" if missing else ""
    return f"recurrent states by {parts}{reason}"


def _choices(file: str) -> Iterator[tuple[str, bool]]:
    """The packages for which a file of transformers has functions, and whether they are used."""
    for function in vars(sys.modules[file]).values():
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
        if code is None or cells is None:
            continue
        outer = dict(zip(code.co_freevars, cells, strict=True))
        if {"package", "is_new_implementation"} <= outer.keys():
            package = outer["package"].cell_contents
            is_used = bool(outer["is_new_implementation"].cell_contents)
            yield _DISTRIBUTIONS.get(package, package), is_used
