"""Text from elsewhere, for a terminal: control characters in it would be commands."""

from __future__ import annotations

import re
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""All but the tab and the line feed; and lone surrogates, which no terminal has bytes for."""


def printable(text: object) -> str:
    """Its text with every control character escaped, as in `\\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
