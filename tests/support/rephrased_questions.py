"""The demo's questions in other words, one for each answer; none was seen in training."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

REPHRASED: Final[dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""By the id of the entry that answers."""
