"""Models whose position embeddings change with the length of the prompt."""

from __future__ import annotations

from typing import Any, Final

CHANGING: Final = ("longrope", "dynamic")


def position_switch(config: Any) -> int | None:
    """The prompt length beyond which a model rotates all keys differently; `None` for never.

    Cached keys of a shorter prompt are then wrong throughout.
    """
    text_config = config.get_text_config(decoder=True)
    rope = getattr(text_config, "rope_parameters", None) or {}
    # One set of parameters, or one for each type of layer.
    for parameters in (rope, *rope.values()):
        if isinstance(parameters, dict) and parameters.get("rope_type") in CHANGING:
            name = "original_max_position_embeddings"
            own = getattr(text_config, name, None) or text_config.max_position_embeddings
            return int(parameters.get(name) or own)
    return None
