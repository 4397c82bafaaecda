"""Encodes control tokens that a caller wrote as plain text. Knows no templates."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken

from llmserve.errors import InvalidRequest
from llmserve.text.taint import NO_MARK, marks_of, plain

UNMARKED: Final = re.compile(NO_MARK + b"+")

MARKUP: Final = re.compile(r"\W.*\w.*\W", re.DOTALL)
"""Words between punctuation, as in `<|user|>` or `[INST]`; a bare word is not markup."""


class ControlTokens:
    """A model's control tokens: the tokenizer's special tokens and those around turns.

    A copy of the tokenizer treats them as plain text. It gets the text with a stand-in for each
    control token that the template wrote; anything else that looks like one stays text. The text is
    encoded as a whole, so that its other tokens are the same as ever. May be used from any thread.
    """

    def __init__(self, hf_tokenizer: Any, frame: str) -> None:
        """`frame` is the text that a chat template writes around turns. Takes up to a second.

        Raises:
            Exception: a tokenizer with parts in Python cannot be copied.
        """
        tokens = _control_tokens(hf_tokenizer, frame)
        self._ids = {token.content: token_id for token_id, token in tokens.items()}
        self._names = {token_id: content for content, token_id in self._ids.items()}
        self._pattern = _any_of(self._ids)
        self._unknown_id = hf_tokenizer.unk_token_id

        nonce = secrets.token_hex(8)  # otherwise a caller could write a stand-in
        self._cut = f"\ue000{nonce}\ue001"
        stand_ins = {
            token.content: AddedToken(
                f"\ue000{nonce}{token.lstrip:d}{token.rstrip:d}\ue001",
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=False,
            )
            for token in tokens.values()
        }
        self._stand_ins = {content: str(token.content) for content, token in stand_ins.items()}
        copy = tokenizers.Tokenizer.from_str(hf_tokenizer.backend_tokenizer.to_str())
        copy.add_special_tokens(list(tokens.values()))
        copy.encode_special_tokens = True
        copy.add_tokens([AddedToken(self._cut, normalized=False), *stand_ins.values()])
        self._copy = copy
        self._cut_id = copy.token_to_id(self._cut)
        self._stand_in_ids = {copy.token_to_id(name) for name in self._stand_ins.values()}
        # The vocabulary may also contain one as an ordinary token; such text must be cut in two.
        self._words = _any_of(c for c, token_id in self._ids.items() if token_id in self._encode(c))

    def as_words(self, text: str, ids: list[int]) -> list[int]:
        """The `ids` of a text, encoded anew if a caller's text became control tokens in them.

        Raises:
            InvalidRequest: this tokenizer cannot encode that text in any other way.
        """
        marks, text = marks_of(text), plain(text)
        own = [
            match
            for run in UNMARKED.finditer(marks)
            for match in self._pattern.finditer(text, run.start(), run.end())
        ]
        own_ids = [self._ids[match.group()] for match in own]
        if [i for i in ids if i in self._names] == own_ids:
            return ids
        pieces: list[str] = []
        end = 0
        for match in own:
            pieces += self._cut_in_two(text[end : match.start()]), self._stand_ins[match.group()]
            end = match.end()
        encoded = self._encode("".join((*pieces, self._cut_in_two(text[end:]))))
        self._refuse_control_tokens(encoded)
        rest = iter(own_ids)
        return [next(rest) if i in self._stand_in_ids else i for i in encoded if i != self._cut_id]

    def _cut_in_two(self, text: str) -> str:
        return self._words.sub(lambda match: match[0][0] + self._cut + match[0][1:], text)

    def _encode(self, text: str) -> list[int]:
        # Unlike `encode`, the batch form releases the GIL.
        return list(self._copy.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def _refuse_control_tokens(self, ids: list[int]) -> None:
        token_id = next((i for i in ids if i in self._names and i != self._unknown_id), None)
        if token_id is not None:
            raise InvalidRequest(
                f"the messages contain {self._names[token_id]!r}, which this model's tokenizer "
                "cannot encode as text; leave it out",
                param="messages",
            )


def _control_tokens(hf_tokenizer: Any, frame: str) -> dict[int, AddedToken]:
    """By id. The token for unknown characters is not one, unless it is also BOS or EOS."""
    ends = {hf_tokenizer.bos_token, hf_tokenizer.eos_token}
    return {
        token_id: token
        for token_id, token in hf_tokenizer.backend_tokenizer.get_added_tokens_decoder().items()
        if (token.special or (token.content in frame and MARKUP.fullmatch(token.content)))
        and not token.content.isspace()
        and (token.content != hf_tokenizer.unk_token or token.content in ends)
    }


def _any_of(contents: Iterable[str]) -> re.Pattern[str]:
    """Matches any of them, the longest first, as tokenizers do; never matches if there are none."""
    return re.compile("|".join(sorted(map(re.escape, contents), key=len, reverse=True)) or "(?!)")
