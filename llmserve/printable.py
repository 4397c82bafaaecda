"""Untrusted text for a terminal, which would execute the control characters in it."""

from __future__ import annotations

import re
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters except tab and line feed, and lone surrogates, which cannot be encoded."""


def printable(text: object) -> str:
    """`str(text)` with every control character escaped, as in `\\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
