"""The modules after pooling, with their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from llmserve.engines.encoding.files import Layer
from llmserve.engines.encoding.unsupported import UnsupportedEncoder

SAFETENSORS: Final = "model.safetensors"
PICKLED: Final = "pytorch_model.bin"

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "ELU": nn.ELU, "GELU": nn.GELU, "Identity": nn.Identity, "LeakyReLU": nn.LeakyReLU,
    "Mish": nn.Mish, "ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "SELU": nn.SELU, "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid, "Softplus": nn.Softplus, "Softsign": nn.Softsign, "Tanh": nn.Tanh,
}  # fmt: skip
"""By the names of torch's classes."""


class Dense(nn.Module):
    """A linear layer and its activation, beside what it was given where the config says so."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, out = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(width, out, bias=bool(config.get("bias", True)))
        self.activation = activation(config.get("activation_function", "Tanh"))
        self.is_residual = bool(config.get("use_residual", False))
        if self.is_residual and width != out:
            self.residual = nn.Linear(width, out, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Of (rows, in_features), (rows, out_features)."""
        made: Tensor = self.activation(self.linear(vectors))
        if not self.is_residual:
            return made
        return made + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class LayerNorm(nn.Module):
    """As torch has it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(config["dimension"]))

    def forward(self, vectors: Tensor) -> Tensor:
        """Of (rows, dimension), the same."""
        normed: Tensor = self.norm(vectors)
        return normed


class Normalize(nn.Module):
    """To length 1, where more comes after."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Of (rows, dimension), the same."""
        return functional.normalize(vectors, dim=-1)


def activation(name: str | None) -> nn.Module:
    """The activation of torch that has this name.

    Raises:
        UnsupportedEncoder: it is none of those that are known.
    """
    if name is None:
        return nn.Identity()
    package, _, kind = name.rpartition(".")
    if kind not in ACTIVATIONS or (package and package.partition(".")[0] != "torch"):
        raise UnsupportedEncoder(f"the activation {name!r} is not supported")
    return ACTIVATIONS[kind]()


def load_layer(layer: Layer, device: torch.device) -> nn.Module:
    """A module in float32 with its weights.

    Raises:
        UnsupportedEncoder: its weights are missing or do not fit.
    """
    if layer.kind == "Normalize":
        return Normalize()
    module = (Dense if layer.kind == "Dense" else LayerNorm)(layer.config)
    try:
        module.load_state_dict(_weights(layer.folder))
    except (OSError, RuntimeError) as error:
        raise UnsupportedEncoder(
            f"the weights of {layer.folder} cannot be read: {error}"
        ) from error
    return module.float().to(device).eval()


def _weights(folder: Path) -> dict[str, Tensor]:
    if (folder / SAFETENSORS).is_file():
        return load_file(folder / SAFETENSORS)
    weights: dict[str, Tensor] = torch.load(folder / PICKLED, map_location="cpu", weights_only=True)
    return weights
