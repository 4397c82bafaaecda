"""Numbers of configs that act by distance, by their names, and what they are in tiny models."""

from __future__ import annotations

import re
from typing import Final

DISTANCES: Final = (
    (re.compile(r"(^|_)(sliding_window(_size)?|window_size|attention_window(_size)?)$"), 23),
    (re.compile(r"attention_chunk_size$"), 40),
    (re.compile(r"local_attention$"), 34),
    (re.compile(r"^index_.*topk"), 24),
    (re.compile(r"original_max_position_embeddings$"), 64),
    (re.compile(r"floor_scale$"), 50),
)
