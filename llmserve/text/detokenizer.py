"""Tokens to text, one token at a time. Knows no tokenizer, only a `decode` function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
CONTEXT_TOKENS = (6, 7, 8, 9, 20, 21, 22, 23)
"""Window lengths to try at the prompt's end: of four in a row, one starts between characters."""

MAX_CHARACTER_BYTES = 4
MAX_HELD_TOKENS = 16


class Detokenizer:
    """Turns a growing list of token ids into text, without emitting incomplete characters.

    A token's text depends on its neighbours (a leading space, a byte of a longer character),
    so each step decodes a short window twice, without and with the new token, and emits the
    difference. While the window ends in U+FFFD, the character may still be incomplete and is
    held, for at most `MAX_HELD_TOKENS`: bytes that never become a character must not be held
    for ever. TGI's and vLLM's incremental detokenizers use the same window.

        ids   c c c | p h h | n      c: context, emitted; h: held; n: new
                    ^read            p: held, of the prompt

    All emitted text together equals the tokenizer's decoding of all tokens, with one exception:
    where a tokenizer discards a whole run of bytes because one is missing (byte fallback), the
    complete characters in it are kept.

    Owned by one thread at a time.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids, self._read, self._prefix_text = self._window(context)
        self._num_of_prompt = len(self._ids) - self._read

    def push(self, token_id: int) -> str:
        """Text that this token completes; may be empty."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if not text.endswith(REPLACEMENT):
            return self._emit(len(self._ids), text[len(self._prefix_text) :])
        num_held = len(self._ids) - self._read
        edge = self._settled(text) if num_held >= MAX_HELD_TOKENS else None
        if edge is None and num_held < MAX_HELD_TOKENS + MAX_CHARACTER_BYTES:
            return ""
        edge = edge or len(self._ids)
        return self._emit(edge, self._broken_text(edge))

    def flush(self) -> str:
        """The text still held, an incomplete character as U+FFFD. Do not use it afterwards."""
        return self._broken_text(len(self._ids))

    def _window(self, context: Sequence[int]) -> tuple[list[int], int, str]:
        """The end of the prompt: its tokens, how many of them are complete text, and that text.

        The window must not begin inside a character: with byte fallback that would spoil the
        whole run of bytes. The prompt may end inside one, whose beginning is held and becomes
        part of the first delta.
        """
        for length in CONTEXT_TOKENS:
            ids = list(context[-length:])
            for num_held in range(min(MAX_CHARACTER_BYTES, len(ids) + 1)):
                read = len(ids) - num_held
                text = self._decode(ids[:read]) if read else ""
                if not (text.startswith(REPLACEMENT) or text.endswith(REPLACEMENT)):
                    return ids, read, text
        return ids, len(ids), self._decode(ids)

    def _settled(self, text: str) -> int | None:
        """The index of the token at which the incomplete last character begins, if one begins
        at a token's start."""
        edges = (len(self._ids) - num_held for num_held in range(1, MAX_CHARACTER_BYTES))
        halves = ((edge, self._decode(self._ids[:edge])) for edge in edges)
        return next((i for i, half in halves if half + self._decode(self._ids[i:]) == text), None)

    def _broken_text(self, edge: int) -> str:
        """The text of the held tokens up to `edge`, with incomplete characters as U+FFFD."""
        text = self._decode(self._ids[:edge])
        if self._num_of_prompt or not text.startswith(self._prefix_text):
            return self._decode(self._ids[self._read + self._num_of_prompt : edge])
        return text[len(self._prefix_text) :]

    def _emit(self, edge: int, new: str) -> str:
        if new or len(self._ids) > 2 * MAX_HELD_TOKENS:
            self._ids = self._ids[self._read :]
            edge -= self._read
            self._prefix_text = self._decode(self._ids[:edge])
        # else: a token without text (a special one) is no context for the next; keep the window.
        self._read = edge
        self._num_of_prompt = 0
        return new
