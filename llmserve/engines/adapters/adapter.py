"""An adapter's weights: read from its folder, checked against the model that is to take them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from llmserve.engines.adapters.config import LoraConfig
from llmserve.engines.adapters.pace import Pause, no_pause
from llmserve.engines.adapters.unservable import Unservable

FILE: Final = "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
WRITER: Final = re.compile(r"^(?:.+\.)?language_model\.(?:model\.)?")
"""What comes before the names of a text side's layers, in a model that also sees."""
_PARTS: Final = (".lora_A.weight", ".lora_B.weight")

Layers = Mapping[str, "LinearShape"]
"""The layers that may be changed, by the names of their modules."""


@dataclass(frozen=True, slots=True)
class LinearShape:
    """Numbers that a linear layer takes and gives. `refusal` says why adapters cannot change it."""

    in_features: int
    out_features: int
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to a layer: x · downᵀ · upᵀ. `down` is (rank, in_features), `up`, scaled
    already, (out_features, rank)."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def rank(self) -> int:
        """The numbers between both."""
        return self.down.shape[0]

    @property
    def num_bytes(self) -> int:
        """Of both."""
        return self.down.nbytes + self.up.nbytes


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is added to which modules; float32 on the CPU, as it is read. `base` is the name of the
    model that it was trained on, as far as its config says."""

    base: str
    pairs: Mapping[str, LowRank]

    @property
    def rank(self) -> int:
        """The largest."""
        return max(pair.rank for pair in self.pairs.values())


def read_adapter(folder: Path, layers: Layers, max_rank: int, pause: Pause = no_pause) -> Adapter:
    """Blocks, and pauses after each matrix.

    Raises:
        Unservable: files are missing or unreadable, or do not fit to the model or to `max_rank`.
    """
    config = LoraConfig.read(folder)
    tensors = _read(folder, pause)
    names = {name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for name in tensors}
    whole = _names_in_whole(layers, names)
    layers = {name: layers[module] for name, module in whole.items()}
    _check_targets(config, names, layers)
    pairs = {}
    for module in sorted(names):
        down, up = (tensors.get(f"{PREFIX}{module}{part}") for part in _PARTS)
        if down is None or up is None:
            raise Unservable(f"{FILE} has only one of the two matrices of {module}")
        pair = LowRank(down, up * config.scale_of(module))
        _check_shape(module, pair, config.rank_of(module), layers[module], max_rank)
        pairs[whole[module]] = pair
        pause()
    if not pairs:
        raise Unservable(f"{FILE} has no matrices")
    return Adapter(config.base, pairs)


def _names_in_whole(layers: Layers, names: Iterable[str]) -> Mapping[str, str]:
    """The layers' names, by those that they have in what the adapter was trained on: that may be a
    model that also sees, of which only the text side is served."""
    if any(WRITER.search(module) for module in layers):
        return {module: module for module in layers}
    parts = (found[0] for name in sorted(names) if (found := WRITER.search(name)))
    part = next(parts, None)
    if part is None:
        return {module: module for module in layers}
    return {re.sub(r"^(model\.)?", part, module, count=1): module for module in layers}


def _read(folder: Path, pause: Pause) -> dict[str, torch.Tensor]:
    path = folder / FILE
    if not path.exists():
        if path.with_suffix(".bin").exists():
            raise Unservable(
                "its weights are in adapter_model.bin, a pickle, which may run code; save it as "
                f"{FILE}"
            )
        raise Unservable(f"there is no {FILE} in its folder")
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if not (name.startswith(PREFIX) and name.endswith(_PARTS)):
                    raise Unservable(f"{FILE} has {name!r}, which is not served")
                tensors[name] = file.get_tensor(name).float()
                pause()
    except (OSError, SafetensorError) as error:
        raise Unservable(f"{FILE} cannot be read: {error}") from None
    return tensors


def _check_targets(config: LoraConfig, names: set[str], layers: Layers) -> None:
    for module in sorted(names):
        shape = layers.get(module)
        if shape is None:
            raise Unservable(f"the model has no linear layer {module!r}")
        if shape.refusal is not None:
            raise Unservable(f"it changes {module}: {shape.refusal}")
        if not config.targets.contain(module):
            raise Unservable(f"{FILE} has matrices for {module}, which its config does not target")
    if config.targets.are_all_linear:
        return
    for module in sorted(layers.keys() - names):
        if config.targets.contain(module):
            raise Unservable(f"it targets {module}, and {FILE} has no matrices for it")


def _check_shape(module: str, pair: LowRank, rank: int, shape: LinearShape, max_rank: int) -> None:
    expected = ((rank, shape.in_features), (shape.out_features, rank))
    found = (tuple(pair.down.shape), tuple(pair.up.shape))
    if found != expected:
        raise Unservable(f"its matrices for {module} are {found}, and {expected} are wanted")
    if rank > max_rank:
        raise Unservable(f"its rank is {rank}, and max_adapter_rank is {max_rank}; raise that")
    if not (pair.down.isfinite().all() and pair.up.isfinite().all()):
        raise Unservable(f"its matrices for {module} have numbers that are not finite")
