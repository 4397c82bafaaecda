"""From texts and pairs to what a model reads. Knows transformers' tokenizers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from llmserve.domain import Truncation
from llmserve.engines.encoding.unsupported import UnsupportedEncoder
from llmserve.engines.encoding_task import TokenInput
from llmserve.errors import InputTooLong

Encoding = Any
"""A text's tokens, as the tokenizers library has them."""


class InputTokenizer:
    """Safe to use from several threads at once: the library's tokenizer is called, which keeps
    nothing of a call. Takes time in proportion to the texts."""

    def __init__(self, hf_tokenizer: Any, *, takes_type_ids: bool, lowers_case: bool) -> None:
        """
        Raises:
            UnsupportedEncoder: the tokenizer is not one of the tokenizers library.
        """
        backend = getattr(hf_tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UnsupportedEncoder(
                f"its tokenizer ({type(hf_tokenizer).__name__}) is written in Python, and only "
                "those of the tokenizers library (tokenizer.json) are supported"
            )
        self._backend = backend
        self._ends = frozenset(
            token_id
            for token_id in (hf_tokenizer.eos_token_id, hf_tokenizer.sep_token_id)
            if token_id is not None
        )
        self._takes_type_ids = takes_type_ids
        self._lowers_case = lowers_case

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens of texts, without those that are put around every text."""
        if self._lowers_case:
            texts = [text.lower() for text in texts]
        encodings: list[Encoding] = self._backend.encode_batch_fast(
            list(texts), add_special_tokens=False
        )
        return encodings

    def length_of_prompt(self, prompt: str) -> int:
        """How many tokens of a text that begins with this prompt are the prompt's: with those that
        are put before it, without that at the end of every text."""
        [encoding] = self.encode([prompt])
        ids = self._backend.post_process(encoding, None, True).ids
        return len(ids) - bool(ids and ids[-1] in self._ends)

    def read(
        self,
        number: int,
        first: Encoding,
        second: Encoding | None,
        max_tokens: int,
        truncation: Truncation,
    ) -> TokenInput:
        """What the model reads of a text or a pair, whose number in its request is for errors. Of a
        pair that is too long, the longer text is truncated.

        Raises:
            InputTooLong: it is, and is not to be truncated.
        """
        special = self._backend.num_special_tokens_to_add(second is not None)
        lengths = [len(each.ids) for each in (first, second) if each is not None]
        num_tokens = sum(lengths) + special
        if num_tokens > max_tokens:
            room = max_tokens - special
            if truncation is Truncation.REFUSE or room < len(lengths):
                raise InputTooLong(number, num_tokens, max_tokens)
            side = "right" if truncation is Truncation.KEEP_START else "left"
            kept = (room,) if second is None else shares(lengths[0], lengths[1], room)
            for encoding, length in zip((first, second), kept, strict=False):
                encoding.truncate(length, direction=side)
        whole = self._backend.post_process(first, second, True)
        type_ids = array("i", whole.type_ids) if self._takes_type_ids else None
        return TokenInput(array("i", whole.ids), type_ids)


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each of two texts keeps that have more than there is room for: the longer one
    gives until both have as many, and then both do."""
    shorter, longer = min(first, second), max(first, second)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return (shorter, longer) if first <= second else (longer, shorter)
