"""The model's tokens as llguidance needs them. Knows no grammar."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from llguidance import LLTokenizer, TokenizerWrapper
from loguru import logger

from llmserve.errors import InvalidRequest
from llmserve.text.tokenizer import Tokenizer

NEEDED: Final = b'{}[]":,0123456789'
"""Bytes without which no JSON can be written."""


class Vocabulary:
    """A model's tokens as bytes, its end-of-sequence tokens among them.

    Made once, by the first thread that asks; it takes about a second for 150,000 tokens. A model
    without an end-of-sequence token gets one that no logit belongs to, `vocab` itself.
    """

    def __init__(self, tokenizer: Tokenizer, vocab: int, eos_ids: Sequence[int]) -> None:
        """`vocab` is the number of logits."""
        self._tokenizer = tokenizer
        self.vocab = vocab
        self._eos_ids = [i for i in eos_ids if i < vocab]
        self._lock = threading.Lock()
        self._made: LLTokenizer | InvalidRequest | None = None

    def get(self) -> LLTokenizer:
        """The tokenizer for llguidance. Blocks.

        Raises:
            InvalidRequest: this model's tokens have no bytes that text could be made of.
        """
        with self._lock:
            if self._made is None:
                self._made = self._make()
        if isinstance(self._made, InvalidRequest):
            raise self._made
        return self._made

    def _make(self) -> LLTokenizer | InvalidRequest:
        backend = getattr(self._tokenizer.hf, "backend_tokenizer", None)
        if backend is not None and self._eos_ids:
            try:
                return LLTokenizer(
                    backend.to_str(), n_vocab=self.vocab, eos_token=list(self._eos_ids)
                )
            # Parts in Python, an unknown decoder, or more tokens than logits.
            except Exception as error:
                logger.info("constrained output reads the vocabulary token by token: {}", error)
        try:
            tokens = _Spelled(self._tokenizer, self.vocab, self._eos_ids)
            return LLTokenizer(TokenizerWrapper(tokens), eos_token=tokens.eos_ids)
        # A tokenizer of the model's own code raises whatever it likes.
        except Exception as error:
            return InvalidRequest(
                "this model cannot answer in a required form: its tokenizer does not tell the "
                f"bytes of each token ({error}); leave the constraint out or use another model"
            )


class _Spelled:
    """Every token's bytes, as our own tokenizer spells them; for `TokenizerWrapper`."""

    def __init__(self, tokenizer: Tokenizer, vocab: int, eos_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        spellings = [tokenizer.spelling(i) for i in range(vocab)]
        self.tokens = [spelling.utf8 for spelling in spellings]
        self.special_token_ids = [i for i, s in enumerate(spellings) if not s.is_in_text]
        self.eos_ids = list(eos_ids)
        if not self.eos_ids:
            self.eos_ids = [vocab]
            self.tokens.append(b"<end of answer>")
            self.special_token_ids.append(vocab)
        self.eos_token_id = self.eos_ids[0]
        self.bos_token_id = None
        single = {token[0] for token in self.tokens if len(token) == 1}
        missing = [chr(byte) for byte in NEEDED if byte not in single]
        if missing:
            raise ValueError(f"no token is {missing[0]!r} alone")

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens of a text; llguidance also asks for bytes that are no text."""
        written = text if isinstance(text, str) else text.decode(errors="replace")
        return self._tokenizer.encode(written)
