"""How one token is written where its log probability is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

REPLACEMENT: Final = "\ufffd"

BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A byte-fallback token in SentencePiece's vocabularies."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """One token by itself.

    Attributes:
        text: as shown: part of a character is U+FFFD, a special token has its name.
        utf8: the token's bytes, which for part of a character differ from those of `text`.
        is_in_text: whether it appears in an answer's text; special tokens do not, as a rule.
    """

    text: str
    utf8: bytes
    is_in_text: bool = True


def spell(text: str, piece: str | bytes | None) -> Spelling:
    """The spelling of a token that decodes to `text` and is `piece` in the vocabulary.

    A token without text is a special one or, if the piece is `None`, not in the vocabulary.
    """
    if not text:
        name = piece if isinstance(piece, str) else ""
        return Spelling(name, name.encode(), is_in_text=False)
    if REPLACEMENT not in text:
        return Spelling(text, text.encode())
    return Spelling(text, _bytes_of(piece, text))


def shown(spelling: Spelling) -> Spelling:
    """The spelling where special tokens are not left out."""
    return replace(spelling, is_in_text=bool(spelling.text))


def _bytes_of(piece: str | bytes | None, text: str) -> bytes:
    """The bytes of a token that contains part of a character."""
    if isinstance(piece, bytes):  # tokenizers with their own code, such as Qwen's first
        return piece
    if piece is None:
        return text.encode()
    if match := BYTE_TOKEN.fullmatch(piece):
        return bytes.fromhex(match[1])
    if all(letter in _BYTE_OF for letter in piece):
        return bytes(_BYTE_OF[letter] for letter in piece)
    return text.encode()


def _byte_letters() -> dict[str, int]:
    """The byte for which each letter stands in a byte-level vocabulary (GPT-2's).

    Printable Latin-1 stands for itself; the other bytes, in order, are the letters from U+0100.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF: Final = _byte_letters()
