"""Tokens to text, one token at a time. Knows no tokenizer, only a `decode` function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = 6
MAX_HELD_TOKENS = 16


class Detokenizer:
    """Turns a growing list of token ids into text that never ends in half a character.

    A token's text depends on its neighbours (a leading space, a byte of a longer character),
    so each step decodes a short window twice, without and with the new token, and emits the
    difference. While the window ends in U+FFFD, the character may still be incomplete and is
    held, for at most `MAX_HELD_TOKENS`: bytes that never become a character must not be kept
    for ever. The window is the scheme of TGI's and vLLM's incremental detokenizers.

        ids   c c c | h h | n        c: context, emitted; h: held; n: new
                    ^read

    Owned by one thread at a time.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(context[-CONTEXT_TOKENS:])
        self._read = len(self._ids)
        # A prompt may end inside a character; its first half belongs to the first delta.
        self._prefix_text = decode(self._ids).rstrip(REPLACEMENT) if self._ids else ""

    def push(self, token_id: int) -> str:
        """Text that this token completes; may be empty."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        is_incomplete = text.endswith(REPLACEMENT)
        if is_incomplete and len(self._ids) - self._read < MAX_HELD_TOKENS:
            return ""
        return self._emit(text)

    def flush(self) -> str:
        """What is still held, less a broken tail; the detokenizer is spent after it."""
        return self._emit(self._decode(self._ids).rstrip(REPLACEMENT))

    def _emit(self, text: str) -> str:
        new = text[len(self._prefix_text) :]
        if new or len(self._ids) > 2 * MAX_HELD_TOKENS:
            self._ids = self._ids[self._read :]
            self._prefix_text = self._decode(self._ids)
        # else: a token without text (a special one) is no context for the next; keep the old.
        self._read = len(self._ids)
        return new
