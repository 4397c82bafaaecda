"""What is odd about a model's positions."""

from __future__ import annotations

from typing import Any, Final

CHANGING: Final = ("longrope", "dynamic")


def position_switch(config: Any) -> int | None:
    """The prompt length from which a model rotates every key in another way, `None` for never.

    Keys in a cache are of the short way: a long prompt needs other ones throughout.
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
