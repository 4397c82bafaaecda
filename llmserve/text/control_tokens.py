"""Control tokens that a caller wrote, encoded as the words they are. Knows no templates."""

from __future__ import annotations

import re
import secrets
from typing import Any

import tokenizers
from tokenizers import AddedToken

from llmserve.errors import InvalidRequest
from llmserve.text.taint import MARK, marks_of, plain


class ControlTokens:
    """The tokens that steer a model: the tokenizer's special ones and those around its turns.

    A copy of the tokenizer does not know them. It is given a text with a stand-in for each one that
    the template wrote; whatever else looks like one is words to it. It is given texts as a whole,
    so that they are cut into tokens as ever. For any thread.
    """

    def __init__(self, hf_tokenizer: Any, frame: str) -> None:
        """`frame` is what a chat template writes around its turns. Takes up to a second.

        Raises:
            Exception: a tokenizer with parts in Python cannot be copied.
        """
        tokens = _control_tokens(hf_tokenizer, frame)
        self._ids = {token.content: token_id for token_id, token in tokens.items()}
        self._names = {token_id: content for content, token_id in self._ids.items()}
        longest_first = sorted(map(re.escape, self._ids), key=len, reverse=True)
        self._pattern = re.compile("|".join(longest_first) or "(?!)")
        self._unknown_id = hf_tokenizer.unk_token_id

        nonce = secrets.token_hex(8)  # or a caller could write a stand-in
        self._cut = f"\ue000{nonce}\ue001"
        self._stand_ins = {
            token.content: AddedToken(
                f"\ue000{nonce}{token.lstrip:d}{token.rstrip:d}\ue001",
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=False,
            )
            for token in tokens.values()
        }
        copy = tokenizers.Tokenizer.from_str(hf_tokenizer.backend_tokenizer.to_str())
        copy.add_special_tokens(list(tokens.values()))
        copy.encode_special_tokens = True
        copy.add_tokens([AddedToken(self._cut, normalized=False), *self._stand_ins.values()])
        self._copy = copy
        self._cut_id = copy.token_to_id(self._cut)
        self._stand_in_ids = {copy.token_to_id(s.content) for s in self._stand_ins.values()}
        # A vocabulary may have one as a word, too, which must be cut in two.
        self._cut_words = {c for c, token_id in self._ids.items() if token_id in self._encode(c)}

    def as_words(self, text: str, ids: list[int]) -> list[int]:
        """The `ids` of a text; others if a caller's words became control tokens in them.

        Raises:
            InvalidRequest: this tokenizer cannot write the words in any other way.
        """
        marks, text = marks_of(text), plain(text)
        found = [(m, MARK not in marks[m.start() : m.end()]) for m in self._pattern.finditer(text)]
        own_ids = [self._ids[match.group()] for match, is_own in found if is_own]
        if len(own_ids) == len(found) and sum(i in self._names for i in ids) <= len(found):
            return ids
        pieces: list[str] = []
        end = 0
        for match, is_own in found:
            pieces += text[end : match.start()], self._rewritten(match.group(), is_own)
            end = match.end()
        encoded = self._encode("".join((*pieces, text[end:])))
        self._refuse_control_tokens(encoded)
        rest = iter(own_ids)
        return [next(rest) if i in self._stand_in_ids else i for i in encoded if i != self._cut_id]

    def _rewritten(self, content: str, is_own: bool) -> str:
        if is_own:
            return str(self._stand_ins[content].content)
        return content[0] + self._cut + content[1:] if content in self._cut_words else content

    def _encode(self, text: str) -> list[int]:
        # Unlike `encode`, the batch form lets go of the GIL while it works.
        return list(self._copy.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def _refuse_control_tokens(self, ids: list[int]) -> None:
        token_id = next((i for i in ids if i in self._names and i != self._unknown_id), None)
        if token_id is not None:
            raise InvalidRequest(
                f"the messages have {self._names[token_id]!r} in them, which this model's "
                "tokenizer cannot take as text; leave it out",
                param="messages",
            )


def _control_tokens(hf_tokenizer: Any, frame: str) -> dict[int, AddedToken]:
    """By id. What stands for unknown characters steers nothing, unless it is the end as well."""
    ends = {hf_tokenizer.bos_token, hf_tokenizer.eos_token}
    return {
        token_id: token
        for token_id, token in hf_tokenizer.backend_tokenizer.get_added_tokens_decoder().items()
        if (token.special or token.content in frame)
        and not token.content.isspace()
        and (token.content != hf_tokenizer.unk_token or token.content in ends)
    }
