"""What Ollama's clients are told of a model, whichever route they ask."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

from llmserve.domain import EngineInfo
from llmserve.registry.registry import LATEST
from llmserve.registry.resolved import Resolved
from llmserve.registry.served import ModelStatus

QUANTIZATION: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def info_of(found: Resolved) -> EngineInfo | None:
    """What is loaded, `None` where it is not ready."""
    is_ready = ModelStatus.READY is found.status is found.model.status
    return found.model.loaded_engine.info if is_ready else None


def names(found: Resolved) -> dict[str, Any]:
    """Its name, with a tag as all names have there; and a digest, which is another when the model
    is."""
    info = info_of(found)
    name = found.name if ":" in found.name else found.name + LATEST
    fingerprint = "" if info is None else info.fingerprint or ""
    digest = hashlib.sha256(f"{name} {fingerprint}".encode()).hexdigest()
    return {"name": name, "model": name, "digest": digest}


def modified_at(found: Resolved) -> datetime:
    """When it was first served, which is what we know."""
    return datetime.fromtimestamp(found.created, UTC)


def details(found: Resolved) -> dict[str, Any]:
    """Family, size and type of the weights, as far as they are known."""
    info = info_of(found)
    family = "" if info is None else info.architecture
    return {
        "parent_model": found.parent or "",
        "format": "safetensors",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": "" if info is None else _counted(info.parameters),
        "quantization_level": "" if info is None else _level(info),
    }


def capabilities(info: EngineInfo | None) -> list[str]:
    """What requests may ask of it, as far as that is known."""
    if info is not None and info.encoding is not None:
        return ["embedding"] if info.encoding.dimensions is not None else []
    if info is None or not info.takes_conversations:
        return ["completion"]
    thinks = info.syntax is not None and info.syntax.has_reasoning
    return ["completion", "tools", *(["thinking"] if thinks else [])]


def _level(info: EngineInfo) -> str:
    packed = info.quantization
    if packed is None or packed.is_expanded:
        return QUANTIZATION.get(info.dtype, info.dtype.upper())
    return f"Q{packed.bits}" if packed.bits else packed.method.upper()


def _counted(parameters: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return str(parameters)
