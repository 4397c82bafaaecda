"""How much memory a model's weights take once they are loaded, by what its files say. Knows no
torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llmserve.domain import ModelSpec
from llmserve.engines.weights.checkpoint import Checkpoint
from llmserve.engines.weights.declared import Declared, declared_in
from llmserve.engines.weights.gguf_header import NoHeader, read_gguf_header
from llmserve.engines.weights.stored_tensors import StoredTensor, stored_tensors

BYTES: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
PACKED_TO: Final = {"int8": 1.0, "fp8": 1.0, "int4": 0.5 + 4 / 128}
"""Bytes of a weight; int4 has a scale and a zero for each group."""

_UNPACKED: Final = ("embed", "wte", "lm_head", "norm", "router", ".experts.")
"""Parts of the names of matrices that are not packed at load."""


def size_of(dtype: object) -> int:
    """Bytes of a number, by the name that a config has for its type."""
    return BYTES.get(str(dtype).removeprefix("torch."), 4)


def weight_bytes(
    spec: ModelSpec, folder: Path, checkpoint: Checkpoint, config: Mapping[str, Any]
) -> int:
    """Bytes of the weights in a folder whose config.json says this."""
    stored = sum((folder / name).stat().st_size for name in checkpoint.files)
    stored_size = size_of(config.get("dtype") or config.get("torch_dtype"))
    size = BYTES.get(spec.dtype, stored_size)
    if checkpoint.gguf_file is not None:
        return _of_gguf(folder / checkpoint.gguf_file, stored, BYTES.get(spec.dtype, 2))
    declared = declared_in(config)
    if declared is None and spec.packs_to is None:
        return stored * size // stored_size
    tensors = [tensor for name in checkpoint.files for tensor in stored_tensors(folder / name)]
    if not tensors:
        return stored
    if declared is None:
        return int(sum(_once_packed(tensor, size, spec.packs_to or "") for tensor in tensors))
    if not spec.dequantize:
        return sum(t.num_items * size if t.is_float else t.num_bytes for t in tensors)
    return sum(_once_expanded(tensor, declared, size) for tensor in tensors)


def _of_gguf(file: Path, stored: int, size: int) -> int:
    """GGUF weights are always expanded."""
    try:
        return read_gguf_header(file).num_parameters * size
    except NoHeader:
        return stored


def _once_packed(tensor: StoredTensor, size: int, kind: str) -> float:
    is_packed = len(tensor.shape) == 2 and not any(part in tensor.name for part in _UNPACKED)
    return tensor.num_items * (PACKED_TO[kind] if is_packed else size)


def _once_expanded(tensor: StoredTensor, declared: Declared, size: int) -> int:
    """Packed numbers are counted by their bits; what belongs to them is left behind."""
    if tensor.is_float:
        is_scale = "scale" in tensor.name or "absmax" in tensor.name or "quant_map" in tensor.name
        return 0 if is_scale else tensor.num_items * size
    if len(tensor.shape) < 2 or "scale" in tensor.name:
        return 0
    return tensor.num_bytes * 8 // (declared.bits or 8) * size
