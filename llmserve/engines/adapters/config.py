"""An adapter's adapter_config.json: what of it is served, and what is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from llmserve.engines.adapters.targets import Names, Targets, pattern_for
from llmserve.engines.adapters.unservable import Unservable

FILE: Final = "adapter_config.json"

_READ: Final = frozenset({
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "bias",
    "init_lora_weights", "base_model_name_or_path",
})  # fmt: skip
_TRAINING: Final = frozenset({
    "arrow_config", "auto_mapping", "corda_config", "ensure_weight_tying", "eva_config",
    "fan_in_fan_out", "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config",
    "megatron_config", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type", "velora_config",
})  # fmt: skip
"""Fields that say how it was trained, or how the base keeps its weights: answers do not depend on
them."""
_STARTS: Final = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base's weights as they are."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What a LoRA adapter's config says.

    Attributes:
        base: name of the model that it was trained on, as far as it says.
        ranks: other ranks than `rank`, by pattern; so are `alphas`.
    """

    base: str
    rank: int
    alpha: float
    uses_rslora: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: Targets

    @classmethod
    def read(cls, folder: Path) -> Self:
        """
        Raises:
            Unservable: it is missing or malformed, or asks for what is not served.
        """
        try:
            fields = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except OSError as error:
            raise Unservable(f"{FILE} cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise Unservable(f"{FILE} is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise Unservable(f"{FILE} is not an object")
        _refuse(fields)
        layers = fields.get("layers_to_transform")
        if isinstance(layers, int):
            layers = [layers]
        patterns = fields.get("layers_pattern") or []
        return cls(
            base=str(fields.get("base_model_name_or_path") or ""),
            rank=_positive(fields, "r", 8),
            alpha=_number("lora_alpha", fields.get("lora_alpha", 8)),
            uses_rslora=bool(fields.get("use_rslora")),
            ranks={
                pattern: _positive({pattern: value}, pattern, 0)
                for pattern, value in _mapping(fields, "rank_pattern").items()
            },
            alphas={
                pattern: _number("alpha_pattern", value)
                for pattern, value in _mapping(fields, "alpha_pattern").items()
            },
            targets=Targets(
                _names(fields, "target_modules"),
                _names(fields, "exclude_modules"),
                tuple(layers) if layers else None,
                (patterns,) if isinstance(patterns, str) else tuple(patterns),
            ),
        )

    def rank_of(self, module: str) -> int:
        """Of a module's matrices."""
        pattern = pattern_for(module, tuple(self.ranks))
        return self.rank if pattern is None else self.ranks[pattern]

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by."""
        pattern = pattern_for(module, tuple(self.alphas))
        alpha = self.alpha if pattern is None else self.alphas[pattern]
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.uses_rslora else rank)


def _refuse(fields: dict[str, Any]) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise Unservable(f"its peft_type is {kind!r}; only LORA is served")
    if fields.get("bias", "none") != "none":
        raise Unservable(f"its bias is {fields['bias']!r}; only 'none' is served")
    start = fields.get("init_lora_weights")
    if start not in _STARTS:
        raise Unservable(
            f"its init_lora_weights is {start!r}, which changes the base's weights; save it with "
            "PEFT's conversion to plain LoRA"
        )
    for name, value in fields.items():
        if value and name not in _READ and name not in _TRAINING:
            raise Unservable(f"it sets {name}, which is not served")
    if not fields.get("target_modules"):
        raise Unservable("it names no target_modules")


def _names(fields: dict[str, Any], name: str) -> Names:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unservable(f"its {name} is neither a string nor a list of strings")
    return tuple(value)


def _mapping(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise Unservable(f"its {name} is not an object")
    return value


def _positive(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Unservable(f"its {name} is {value!r}, not a whole number above 0")
    return value


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Unservable(f"its {name} is {value!r}, not a number")
    return float(value)
