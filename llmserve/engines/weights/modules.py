"""Which files of a repository are weights that are needed, modules after the transformer included.
Knows only file names and the content of `modules.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Final

from llmserve.engines.weights.checkpoint import find_checkpoint, stray_weights
from llmserve.engines.weights.purpose import MODULES

LAYER_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
"""Of a module after the transformer, the first that there is."""


def unneeded_weights(
    names: Collection[str], read: Callable[[str], str], gguf_file: str | None = None
) -> frozenset[str]:
    """Files that look like weights or an index and are not needed; `read` returns the text of one.

    Raises:
        NoCheckpoint: there are no weights, or shards are missing; names them.
    """
    transformer, *layers = _folders(names, read)
    inside = [name.removeprefix(transformer) for name in names if name.startswith(transformer)]
    checkpoint = find_checkpoint(inside, lambda name: read(transformer + name), gguf_file)
    needed = {transformer + name for name in checkpoint.names}
    for folder in layers:
        there = [folder + name for name in LAYER_WEIGHTS if folder + name in names]
        needed.update(there[:1])
    return stray_weights(names, needed)


def _folders(names: Collection[str], read: Callable[[str], str]) -> list[str]:
    """Of the modules, the transformer's first; each empty or with a slash at its end."""
    if MODULES not in names:
        return [""]
    try:
        listed = json.loads(read(MODULES))
    except (OSError, ValueError):  # loading the model will report it
        return [""]
    modules = [module for module in listed if isinstance(module, dict)]
    paths = [str(module.get("path") or "").strip("/") for module in modules]
    return [f"{path}/" if path else "" for path in paths] or [""]
