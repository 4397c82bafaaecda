"""What each method of packing weights needs to be loaded: packages, a device, kernels."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from llmserve.errors import ModelBroken


@dataclass(frozen=True, slots=True)
class Method:
    """A method, as a checkpoint's `quant_method` names it.

    Attributes:
        extra: of our package, which has `packages`.
        runs_on_cpu: whether a CPU computes with the weights as they are stored.
        expands: whether they can be expanded at load.
        capability: the least compute capability of a GPU that computes with them.
        kernels: that transformers gets from the hub for it; it cannot do without the first.
    """

    extra: str | None = None
    packages: tuple[str, ...] = ()
    runs_on_cpu: bool = True
    expands: bool = True
    capability: tuple[int, int] = (0, 0)
    kernels: tuple[str, ...] = ()


_GPTQ: Final = Method("gptq", ("gptqmodel", "optimum"), expands=False)
_FP8: Final = Method(runs_on_cpu=False, capability=(8, 9), kernels=("finegrained-fp8", "deep-gemm"))
METHODS: Final = {
    "awq": _GPTQ,
    "bitsandbytes": Method("bitsandbytes", ("bitsandbytes",)),
    "compressed-tensors": Method(
        "compressed-tensors", ("compressed_tensors",), runs_on_cpu=False, capability=(8, 9)
    ),
    "fp8": _FP8,
    "gguf": Method("gguf", ("gguf",), runs_on_cpu=False),
    "gptq": _GPTQ,
    "mxfp4": Method(
        runs_on_cpu=False, capability=(7, 5), kernels=("kernels-community/gpt-oss-triton-kernels",)
    ),
    "mxfp8": _FP8,
    "torchao": Method("torchao", ("torchao",)),
}
"""Others are transformers' business alone: it says what it lacks."""


def require_packages(model: str, method: str) -> None:
    """
    Raises:
        ModelBroken: a package of the method's extra is missing; names the extra.
    """
    needs = METHODS.get(method, Method())
    missing = [package for package in needs.packages if find_spec(package) is None]
    if missing:
        raise ModelBroken(
            f"model {model!r} has {method} weights, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed; "
            f"pip install 'llmserve[{needs.extra}]'"
        )
