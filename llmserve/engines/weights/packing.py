"""How a model's weights are packed and loaded: as they are stored, expanded, or packed at load.

transformers' quantizers do the work; here is decided what they are asked for, and refused by name
what they could not do, or would do in another way than was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from transformers import GgufConfig
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from llmserve.domain import ModelSpec, Quantization
from llmserve.engines.weights.declared import Declared, declared_in, weights_of_groups
from llmserve.engines.weights.expanding import evened, expanded
from llmserve.engines.weights.gguf_header import NoHeader, read_gguf_header
from llmserve.engines.weights.hub_kernels import fetch_kernels
from llmserve.engines.weights.methods import METHODS, Method, require_packages
from llmserve.engines.weights.quantising import quantising, told_of_experts
from llmserve.engines.weights.uneven_blocks import take_uneven_blocks
from llmserve.engines.weights.uneven_rows import spare_uneven_rows
from llmserve.errors import ModelBroken

DEQUANTIZE: Final = "set dequantize = true in its model.toml to expand them"
EXPANDED_AT_LOAD: Final = frozenset({"compressed-tensors", "fp8", "mxfp4", "mxfp8"})
"""By transformers while it reads them; the others are expanded after that."""


def _as_loaded(model: Any) -> Any:
    return model


def _as_bitsandbytes(model: Any) -> Any:
    spare_uneven_rows(model)
    return evened(model)


@dataclass(frozen=True, slots=True)
class Packing:
    """
    Attributes:
        arguments: what `from_pretrained` is given besides.
        values: what its `quantization_config` is given besides.
        finish: what is done with the model once it is loaded.
        warnings: for the operator.
    """

    quantization: Quantization | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Any], Any] = _as_loaded
    warnings: tuple[str, ...] = ()

    def applied_to(self, config: Any) -> None:
        """Tell the checkpoint's own config `values`."""
        for part in (config, config.get_text_config(decoder=True)):
            if isinstance(told := getattr(part, "quantization_config", None), dict):
                told |= self.values

    @property
    def is_packed(self) -> bool:
        """Whether the loaded weights have fewer bits than they compute with."""
        return self.quantization is not None and not self.quantization.is_expanded


def packing_of(spec: ModelSpec, config: Any, device: torch.device) -> Packing:
    """For the checkpoint with this config, on this device or others of its kind.

    Raises:
        ModelBroken: a package, a kernel or the right device is missing; says which, and whether
            expanding the weights would do.
    """
    declared = declared_in(config.to_dict())
    if declared is None:
        if spec.packs_to is None:
            return Packing()
        arguments = quantising(spec, device)
        bits = 4 if spec.packs_to == "int4" else 8
        told = Quantization(spec.packs_to, bits, "load")
        return Packing(told, arguments, warnings=told_of_experts(spec.packs_to, config))
    warnings = _ignored_quantize(spec, declared.method)
    if declared.method not in (*METHODS, *AUTO_QUANTIZER_MAPPING):
        raise ModelBroken(
            f"model {spec.name!r} has weights packed by {declared.method!r}, which this version of "
            "transformers does not know"
        )
    require_packages(spec.name, declared.method)
    method = METHODS.get(declared.method, Method())
    if spec.dequantize:
        return _expanding(spec, declared, method, warnings)
    _check_device(spec, declared, method, device)
    if method.kernels:
        fetch_kernels(spec.name, method.kernels)
    quantization = Quantization(declared.method, declared.bits)
    if declared.method == "compressed-tensors":
        return Packing(quantization, values=_with_kernels(spec, declared), warnings=warnings)
    if declared.method == "bitsandbytes":
        # It warns at every product that it computes in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return Packing(quantization, finish=_as_bitsandbytes, warnings=warnings)
    return Packing(quantization, warnings=warnings)


def packing_of_gguf(spec: ModelSpec, file: Path) -> Packing:
    """For a GGUF file, whose weights are always expanded: into bfloat16 if nothing else is asked
    for and they are packed.

    Raises:
        ModelBroken: a package is missing, or the file is none.
    """
    require_packages(spec.name, "gguf")
    try:
        header = read_gguf_header(file)
    except NoHeader as reason:
        raise ModelBroken(f"model {spec.name!r} cannot be loaded: {reason}") from reason
    bits = round(header.num_bytes * 8 / max(1, header.num_parameters))
    arguments = {"gguf_file": file.name, "quantization_config": GgufConfig(dequantize=True)}
    warnings = _ignored_quantize(spec, "gguf")
    if bits >= 16:
        return Packing(None, arguments, warnings=warnings)
    if spec.dtype == "auto":
        arguments["dtype"] = torch.bfloat16
    return Packing(Quantization("gguf", bits, is_expanded=True), arguments, warnings=warnings)


def _ignored_quantize(spec: ModelSpec, method: str) -> tuple[str, ...]:
    """A warning if weights that are packed by this method were to be packed at load."""
    if spec.packs_to is None:
        return ()
    return (f"quantize = {spec.packs_to} is ignored: its weights are packed already ({method})",)


def _expanding(
    spec: ModelSpec, declared: Declared, method: Method, warnings: tuple[str, ...]
) -> Packing:
    if not method.expands or declared.method not in METHODS:
        raise ModelBroken(
            f"model {spec.name!r} has {declared.method} weights, which cannot be expanded; leave "
            "dequantize out"
        )
    quantization = Quantization(declared.method, declared.bits, is_expanded=True)
    take_uneven_blocks()
    if declared.method not in EXPANDED_AT_LOAD:
        return Packing(quantization, finish=expanded, warnings=warnings)
    if declared.method == "compressed-tensors" and len(_formats(declared)) > 1:
        raise ModelBroken(
            f"model {spec.name!r} has layers packed in {len(_formats(declared))} ways, which "
            "transformers expands as if they were one"
        )
    return Packing(quantization, values={"dequantize": True}, finish=evened, warnings=warnings)


def _check_device(
    spec: ModelSpec, declared: Declared, method: Method, device: torch.device
) -> None:
    lacking = f"model {spec.name!r} has {declared.method} weights"
    if device.type == "cpu":
        if not method.runs_on_cpu:
            raise ModelBroken(
                f"{lacking}, and only a GPU computes with them as they are; {DEQUANTIZE}"
            )
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < method.capability:
        raise ModelBroken(
            f"{lacking}, which need a GPU of compute capability "
            f"{'.'.join(map(str, method.capability))}, and {device} has "
            f"{'.'.join(map(str, capability))}; {DEQUANTIZE}"
        )


def _with_kernels(spec: ModelSpec, declared: Declared) -> dict[str, Any]:
    """torch's FP8 kernels. Without them the first forward would expand all weights."""
    groups = weights_of_groups(declared.values)
    if {(args.get("type"), args.get("num_bits")) for args in groups} != {("float", 8)}:
        raise ModelBroken(
            f"model {spec.name!r} has compressed-tensors weights of {declared.bits} bits, and "
            f"there are kernels for FP8 alone; {DEQUANTIZE}"
        )
    return {"use_optimized_inference": True}


def _formats(declared: Declared) -> set[str]:
    """Ways in which groups of layers are packed."""
    return {repr(sorted(args.items())) for args in weights_of_groups(declared.values)}
