"""How few tokens a text can have, by its length alone. Knows the tokenizers library's formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from tokenizers import pre_tokenizers

from llmserve.text.too_long import TooLong

UNICODE_FORMS: Final = {"NFC", "NFD", "NFKC", "NFKD"}
SPACE: Final = "▁"
"""What SentencePiece writes for a space: three bytes for one."""


class LengthBound:
    """The bytes of a text ÷ those of the vocabulary's longest token.

    That holds only where every byte of the text ends in some token: for byte-level BPE, and for BPE
    with byte fallback, without steps before them that could drop or shorten anything. Of other
    tokenizers nothing is known, and 0 is true of every text. For any thread.
    """

    def __init__(self, backend: Any) -> None:
        """`backend` is the tokenizer of the tokenizers library, or `None`."""
        self._longest: int | None = None
        self._is_for_ascii_only = False
        if backend is None or type(backend.model).__name__ != "BPE":
            return
        added = backend.get_added_tokens_decoder().values()
        if any(token.lstrip or token.rstrip for token in added):  # they swallow white space
            return
        try:
            normalizers = [*_steps(backend.normalizer, "normalizers")]
            steps = [*_steps(backend.pre_tokenizer, "pretokenizers")]
        # Parts in Python cannot be written down; which error says so is their own affair.
        except Exception:
            return
        vocabulary = backend.get_vocab(with_added_tokens=False)
        if _is_byte_level(vocabulary, normalizers, steps):
            self._is_for_ascii_only = bool(normalizers)  # of which these forms change nothing
            longest = max(map(len, vocabulary))  # a character stands for a byte
        elif _has_byte_fallback(backend.model, vocabulary, normalizers, steps):
            longest = max(len(piece.encode()) for piece in vocabulary)
        else:
            return
        # The normalizer may have put a space before an added token, and changed those in it.
        others = (len((" " + t.content).replace(" ", SPACE).encode()) for t in added)
        self._longest = max(longest, *others, 1)

    def fewest_tokens(self, text: str) -> int:
        """The text has no fewer; 0 where that is all that is known."""
        if self._longest is None or (self._is_for_ascii_only and not text.isascii()):
            return 0
        num_bytes = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return -(-num_bytes // self._longest)

    def check(self, text: str, max_tokens: int | None) -> None:
        """See that a text may have so few.

        Raises:
            TooLong: it has more.
        """
        if max_tokens is not None and (fewest := self.fewest_tokens(text)) > max_tokens:
            raise TooLong(fewest)


def _steps(component: Any, inner: str) -> Iterator[dict[str, Any]]:
    """What a normalizer or pre-tokenizer does, one thing after the other."""
    state = json.loads(component.__getstate__()) if component is not None else None
    waiting = [state] if state else []
    while waiting:
        step = waiting.pop(0)
        if step["type"] == "Sequence":
            waiting = [*step[inner], *waiting]
        else:
            yield step


def _is_byte_level(
    vocabulary: dict[str, int], normalizers: list[dict[str, Any]], steps: list[dict[str, Any]]
) -> bool:
    kinds = {step["type"] for step in steps}
    return (
        "ByteLevel" in kinds
        and kinds <= {"ByteLevel", "Split", "Digits"}
        and all(step.get("behavior") != "Removed" for step in steps)
        and all(step["type"] in UNICODE_FORMS for step in normalizers)
        and all(byte in vocabulary for byte in pre_tokenizers.ByteLevel.alphabet())
    )


def _has_byte_fallback(
    model: Any,
    vocabulary: dict[str, int],
    normalizers: list[dict[str, Any]],
    steps: list[dict[str, Any]],
) -> bool:
    return (
        model.byte_fallback
        and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
        and all(step["type"] == "Metaspace" for step in steps)
        and all(
            step["type"] == "Prepend"
            or (step["type"] == "Replace"
                and (step["pattern"], step["content"]) == ({"String": " "}, SPACE))
            for step in normalizers
        )
    )  # fmt: skip
