"""Tokens to text, one token at a time. Knows no tokenizer, only a `decode` function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = (6, 7, 8, 9, 20, 21, 22, 23)
"""Windows to try at the end of the prompt: of four in a row, one begins with a character."""

MAX_CHARACTER_BYTES = 4
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
        self._ids, self._read, self._prefix_text = self._window(context)

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

    def _window(self, context: Sequence[int]) -> tuple[list[int], int, str]:
        """The end of the prompt: its tokens, how many of them are whole text, and that text.

        The window must not begin inside a character: with byte fallback that would spoil the
        whole run of bytes. Token ids may end inside one; its first half is held and belongs to
        the first delta.
        """
        for length in CONTEXT_TOKENS:
            ids = list(context[-length:])
            for num_held in range(min(MAX_CHARACTER_BYTES, len(ids) + 1)):
                read = len(ids) - num_held
                text = self._decode(ids[:read]) if read else ""
                if not (text.startswith(REPLACEMENT) or text.endswith(REPLACEMENT)):
                    return ids, read, text
        return ids, len(ids), self._decode(ids)

    def _emit(self, text: str) -> str:
        new = text[len(self._prefix_text) :]
        if new or len(self._ids) > 2 * MAX_HELD_TOKENS:
            self._ids = self._ids[self._read :]
            self._prefix_text = self._decode(self._ids)
        # else: a token without text (a special one) is no context for the next; keep the old.
        self._read = len(self._ids)
        return new
