r"""Regular expressions of requests, written so that llguidance reads them as validators do.

Shorthands differ: of `\w`, Python knows all letters, ECMA-262 and llguidance those of ASCII. Each
is replaced by characters that belong to it for all of them. Bounded, because a repetition of
repetitions takes memory by their product.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 4096
MAX_NESTING: Final = 40
MAX_SIZE: Final = 50_000
"""Characters that the longest match may have, where every `*` and `+` counts once."""

WORD: Final = r"\p{L}\p{M}\p{N}\p{Pc}"
"""At least what anyone takes for a part of a word."""
NARROW: Final = {
    "d": "[0-9]",
    "w": "[0-9A-Za-z_]",
    "s": r"\s",
    "D": r"\P{Nd}",
    "W": f"[^{WORD}]",
    "S": r"[^\s\x1c-\x1f]",
}
"""Characters that everyone counts in."""
WIDE: Final = {
    "d": r"\p{Nd}",
    "w": f"[{WORD}]",
    "s": r"[\s\x1c-\x1f]",
    "D": "[^0-9]",
    "W": "[^0-9A-Za-z_]",
    "S": r"\S",
}
"""Characters that someone counts in, for the inside of `[^...]`."""
_REPEAT: Final = re.compile(r"\{(\d+)(,(\d*))?\}")


class PatternRefused(ValueError):
    """The expression cannot be served; says how it could be."""


def portable(pattern: str) -> str:
    """The expression with portable shorthands. What is no expression stays none.

    Raises:
        PatternRefused: it is too long, too deep, repeats too much, or ends within an escape.
    """
    return _Scanner(pattern).scan()


class _Scanner:
    """One pass over an expression. `sizes` has what each open group matches at most so far."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_CHARS:
            raise PatternRefused(
                f"it has {len(pattern):,} characters and may have {MAX_CHARS:,}; shorten it"
            )
        self._pattern = pattern
        self._at = 0
        self._sizes = [0]
        self._last = 0

    def scan(self) -> str:
        written = []
        while self._at < len(self._pattern):
            written.append(self._next())
        return "".join(written)

    def _next(self) -> str:
        pattern, at = self._pattern, self._at
        if match := _REPEAT.match(pattern, at):
            self._at = match.end()
            self._repeat(int(match[1]), int(match[3] or match[1]))
            return match[0]
        letter = pattern[at]
        if letter == "[":
            self._grow(1)
            return self._character_class()
        self._at += 1
        if letter == "\\":
            if self._at == len(pattern):  # llguidance would drop it
                raise PatternRefused("it ends in a backslash that escapes nothing; double it")
            self._grow(1)
            return self._escape(NARROW)
        if letter == "(":
            self._sizes.append(0)
            if len(self._sizes) > MAX_NESTING:
                raise PatternRefused(f"its groups are nested more than {MAX_NESTING} deep")
        elif letter == ")" and len(self._sizes) > 1:
            self._grow(self._sizes.pop())
        elif letter not in "*+?|^$":
            self._grow(1)
        return letter

    def _grow(self, size: int) -> None:
        self._last = size
        self._sizes[-1] += size
        if self._sizes[-1] > MAX_SIZE:
            raise PatternRefused(
                f"it repeats up to more than {MAX_SIZE:,} characters; lower its repetitions, or "
                "use * or +"
            )

    def _repeat(self, least: int, most: int) -> None:
        self._grow(self._last * (max(least, most, 1) - 1))

    def _escape(self, shorthands: dict[str, str]) -> str:
        """What follows a backslash."""
        letter = self._pattern[self._at]
        self._at += 1
        if letter in "pPxu" and self._pattern[self._at : self._at + 1] == "{":
            end = self._pattern.find("}", self._at) + 1 or len(self._pattern)
            name, self._at = self._pattern[self._at : end], end
            return f"\\{letter}{name}"
        if letter in "<>":  # the borders of a word for llguidance
            return letter
        return shorthands.get(letter, f"\\{letter}")

    def _character_class(self) -> str:
        pattern = self._pattern
        is_negated = pattern.startswith("[^", self._at)
        written = "[^" if is_negated else "["
        self._at += len(written)
        if pattern.startswith("]", self._at):  # a bracket that comes first is itself
            written += r"\]"
            self._at += 1
        while self._at < len(pattern):
            letter = pattern[self._at]
            self._at += 1
            if letter == "]":
                return written + "]"
            if letter == "\\" and self._at < len(pattern):
                written += self._escape(WIDE if is_negated else NARROW)
            elif letter == "[" or (letter in "&-~" and pattern[self._at - 2] == letter):
                written += f"\\{letter}"  # classes within classes, and their differences
            else:
                written += letter
        return written
