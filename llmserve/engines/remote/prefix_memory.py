"""What an upstream has probably cached: the beginnings of the prompts that it was sent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from llmserve.domain import Conversation, Message, Prompt

BLOCK_CHARACTERS: Final = 64
"""About a block of 16 tokens, which is what most servers cache by."""
BLOCK_TOKENS: Final = 16
MOST_BLOCKS: Final = 4096
"""Of one prompt; what comes after is not looked at."""
CAPACITY: Final = 2**16
"""Blocks that are remembered of one upstream, the latest ones."""

Digest = tuple[int, ...]
"""Hashes of a prompt's whole blocks; each is of everything up to the block's end."""


def digest_of(prompt: Prompt, salt: str = "") -> Digest:
    """The digest of a prompt. Conversations that begin alike have digests that begin alike."""
    hashes, last = [], hash((type(prompt).__name__, salt))
    for block in islice(_blocks(prompt), MOST_BLOCKS):
        last = hash((last, block))
        hashes.append(last)
    return tuple(hashes)


class PrefixMemory:
    """The least recently used blocks are forgotten, as a cache does. Owned by the event loop."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def share(self, digest: Digest) -> float:
        """What share of a prompt it has, 0 to 1."""
        known = 0
        for block in digest:
            if block not in self._blocks:
                break
            known += 1
        return known / len(digest) if digest else 0.0

    def add(self, digest: Digest) -> None:
        """A prompt was sent there. Of one prompt the beginning is forgotten last."""
        for block in reversed(digest):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        """It was started anew."""
        self._blocks.clear()


def _blocks(prompt: Prompt) -> Iterator[str | tuple[int, ...]]:
    """The prompt in pieces of equal length; an incomplete one at its end is left out."""
    if isinstance(prompt, tuple):
        for start in range(0, len(prompt) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            yield prompt[start : start + BLOCK_TOKENS]
        return
    held = ""
    for text in (prompt,) if isinstance(prompt, str) else _texts(prompt):
        held += text
        whole = len(held) - len(held) % BLOCK_CHARACTERS
        for start in range(0, whole, BLOCK_CHARACTERS):
            yield held[start : start + BLOCK_CHARACTERS]
        held = held[whole:]


def _texts(conversation: Conversation) -> Iterator[str]:
    """Much as a chat template writes it: the tools first."""
    yield conversation.template_options
    for tool in conversation.tools:
        yield tool.definition
    for message in conversation.messages:
        yield _text(message)


def _text(message: Message) -> str:
    calls = "".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    return f"<{message.role}>{message.content}{calls}"
