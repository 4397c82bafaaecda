"""A lower bound of a text's tokens from its length. Knows the tokenizers library's formats."""

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

    This holds only where every byte of the text ends up in a token: for byte-level BPE and for BPE
    with byte fallback, without earlier steps that could drop or shorten anything. For all other
    tokenizers the bound is 0. May be used from any thread.
    """

    def __init__(self, backend: Any) -> None:
        """`backend` is a tokenizer of the tokenizers library, or `None`."""
        self._longest: int | None = None
        self._is_for_ascii_only = False
        if backend is None or type(backend.model).__name__ != "BPE":
            return
        added = backend.get_added_tokens_decoder().values()
        if any(token.lstrip or token.rstrip for token in added):  # these swallow white space
            return
        try:
            normalizers = [*_steps(backend.normalizer, "normalizers")]
            steps = [*_steps(backend.pre_tokenizer, "pretokenizers")]
        # Components written in Python cannot be serialized and may raise anything.
        except Exception:
            return
        vocabulary = backend.get_vocab(with_added_tokens=False)
        if _is_byte_level(vocabulary, normalizers, steps):
            self._is_for_ascii_only = bool(normalizers)  # Unicode forms leave ASCII unchanged
            longest = max(map(len, vocabulary))  # each character stands for a byte
        elif _has_byte_fallback(backend.model, vocabulary, normalizers, steps):
            longest = max(len(piece.encode()) for piece in vocabulary)
        else:
            return
        # The normalizer may put a space before an added token, and replace spaces in it.
        others = (len((" " + t.content).replace(" ", SPACE).encode()) for t in added)
        self._longest = max(longest, *others, 1)

    def fewest_tokens(self, text: str) -> int:
        """A lower bound of the text's tokens; 0 where none is known."""
        if self._longest is None or (self._is_for_ascii_only and not text.isascii()):
            return 0
        num_bytes = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return -(-num_bytes // self._longest)

    def check(self, text: str, max_tokens: int | None) -> None:
        """Check that a text may have at most `max_tokens` tokens.

        Raises:
            TooLong: it certainly has more.
        """
        if max_tokens is not None and (fewest := self.fewest_tokens(text)) > max_tokens:
            raise TooLong(fewest)


def _steps(component: Any, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, with sequences flattened."""
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
