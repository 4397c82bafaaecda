"""Numbers in a model's config that make attention depend on how far apart tokens are, or where they
are: windows, chunks, sparse selection, changes of position embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_NAMES: Final = re.compile(
    r"(^|_)(window|chunk)(_(size|len|length))?$"  # sliding_window, attention_chunk_size, ...
    r"|(^|_)local_attention$"
    r"|^index(er)?_.*(topk|block|budget|ratio)"  # sparse attention
    r"|^block_size$|compress_rate|(distance|extent|floor|floor_scale)$"
    r"|^original_max_position_embeddings$"
)
_OF_PLACES: Final = re.compile(r"(floor|floor_scale)$")
"""These act on a token's place in its step, too, if a model counts tokens by itself."""


def distances(config: Any, max_context: int) -> dict[str, int]:
    """Those that matter in contexts of this length: each name with its smallest number."""
    found: dict[str, int] = {}
    for name, value in _numbers(config.to_dict()):
        is_near = 0 < value < max_context or _OF_PLACES.search(name) is not None
        if _NAMES.search(name) and is_near:
            found[name] = min(value, found.get(name, value))
    return found


def is_other_model(name: str) -> bool:
    """Whether this name in a config holds the config of another model, of images for example."""
    return name.endswith("_config") and name != "per_layer_config"


def _numbers(values: Mapping[Any, Any], outer: str = "") -> Iterator[tuple[str, int]]:
    """Every integer by its name; if that is not the number's own, such as a type of layer, by the
    outer one."""
    for key, value in values.items():
        name = outer if _NAMES.search(outer) else str(key)
        if isinstance(value, Mapping) and not is_other_model(str(key)):
            yield from _numbers(value, str(key))
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                yield name, number
