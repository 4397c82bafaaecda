"""Writes grammars in the Lark dialect of llguidance.

Source: docs/syntax.md of https://github.com/guidance-ai/llguidance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

SPACING: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""JSON as Python's `json.dumps` writes it, which is what models were trained on."""


class Lark:
    """The rules of one grammar.

    `tokens` are the delimiters that llguidance takes for special tokens: they are matched as
    tokens, and no text contains them. Other delimiters are text, whether or not the vocabulary has
    a token for them: a token that has text is matched by it.
    """

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self._tokens = tokens
        markers = sorted(map(re.escape, tokens), key=len, reverse=True)
        self._markers = re.compile(f"({'|'.join(markers)})") if markers else None
        self._rules: dict[str, str] = {}

    def is_token(self, marker: str) -> bool:
        """Whether a delimiter is one of `tokens`."""
        return marker in self._tokens

    def literal(self, text: str) -> str:
        """A text in a rule's body; delimiters in it are tokens."""
        parts = self._markers.split(text) if self._markers else [text]
        return " ".join(
            f"<[{self._tokens[part]}]>" if part in self._tokens else json.dumps(part)
            for part in parts
            if part
        )

    def rule(self, name: str, body: str, options: str = "") -> str:
        """Add a rule; its name, made unique."""
        unique = f"{name}_{len(self._rules)}"
        self._rules[unique] = f"{unique}{options}: {body}"
        return unique

    def text_until(self, end: str, length: str = "*") -> str:
        """A rule for any text and this delimiter after it. `length` is a quantifier."""
        marker = next((m for m in self._tokens if end.endswith(m)), None)
        if marker is not None:
            return self.rule("text", f"/(.|\\n){length}/ {self.literal(marker)}")
        return self.rule("text", f"/(.|\\n){length}/ {json.dumps(end)}", "[lazy]")

    def json(self, schema: Mapping[str, Any], *, is_strict: bool = True) -> str:
        """A rule for the JSON texts of a schema. One that is not strict may have keywords that
        cannot be enforced."""
        options = {**SPACING, **({} if is_strict else {"lenient": True})}
        own = schema.get("x-guidance")
        options.update(own if isinstance(own, dict) else {})
        return self.rule("json", "%json " + json.dumps({**schema, "x-guidance": options}))

    def members(self, pairs: Mapping[str, str], required: Sequence[str], comma: str) -> str:
        """The body for these pairs in order, those that are not required perhaps, with a comma
        between two that are there."""
        rest = ""
        first = [] if any(key in required for key in pairs) else ['""']
        for key, pair in reversed(tuple(pairs.items())):
            begun = self.rule("pairs", f"{pair} {rest}")
            first = [begun] if key in required else [*first, begun]
            follow = f"{json.dumps(comma)} {begun}"
            otherwise = rest or '""'
            rest = self.rule("rest", follow if key in required else f"({follow}) | {otherwise}")
        return any_of(first)

    def grammar(self, start: str) -> str:
        """The grammar that begins with this body."""
        return "\n".join(["%llguidance {}", f"start: {start}", *self._rules.values(), ""])


def any_of(bodies: list[str]) -> str:
    """One of these bodies."""
    return bodies[0] if len(bodies) == 1 else "(" + " | ".join(bodies) + ")"


def repeated(least: int, most: int | None) -> str:
    """The quantifier for so many."""
    if most is None:
        return f"{{{least},}}" if least else "*"
    return f"{{{least},{most}}}"
