"""What a model's config says of how its weights are packed. Knows no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_BITS: Final = {"fp8": 8, "mxfp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "nvfp4": 4}
_BITS_KEYS: Final = ("bits", "w_bit", "nbits")


@dataclass(frozen=True, slots=True)
class Declared:
    """A `quantization_config`: its method, the bits of most weights, and all of its values."""

    method: str
    bits: int | None
    values: Mapping[str, Any]


def declared_in(config: Mapping[str, Any]) -> Declared | None:
    """How the weights of a model with this config.json are packed; `None` if they are not."""
    nested = config.get("text_config")
    inner = nested.get("quantization_config") if isinstance(nested, Mapping) else None
    values = config.get("quantization_config") or inner
    if not isinstance(values, Mapping):
        return None
    is_of_bitsandbytes = values.get("load_in_4bit") or values.get("load_in_8bit")
    method = "bitsandbytes" if is_of_bitsandbytes else str(values.get("quant_method") or "")
    return Declared(method, _bits(method, values), values) if method else None


def _bits(method: str, values: Mapping[str, Any]) -> int | None:
    if method == "bitsandbytes":
        return 4 if values.get("load_in_4bit") else 8
    if method == "torchao":
        found = re.search(r"int(\d)|float(\d)", str(values.get("quant_type")).lower())
        return None if found is None else int(found[1] or found[2])
    if method == "compressed-tensors":
        bits = [args["num_bits"] for args in weights_of_groups(values) if "num_bits" in args]
        return bits[0] if bits else None
    known = next((values[key] for key in _BITS_KEYS if key in values), _BITS.get(method))
    return known if isinstance(known, int) else None


def weights_of_groups(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How compressed-tensors' groups of layers store their weights, group by group."""
    groups = values.get("config_groups")
    schemes = groups.values() if isinstance(groups, Mapping) else ()
    weights = [scheme.get("weights") for scheme in schemes if isinstance(scheme, Mapping)]
    return [args for args in weights if isinstance(args, Mapping)]
