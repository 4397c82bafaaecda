"""A last message that the answer goes on in: its turn is cut off where its words end.

The method is that of `continue_final_message` in transformers: a tag that no caller wrote follows
the words through the template.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

from llmserve.domain import Conversation
from llmserve.errors import InvalidRequest
from llmserve.text.taint import plain, unmarked

TAG: Final = f"CONTINUED{secrets.randbits(64)}"
SPACED: Final = TAG + " "
"""The space shows whether the template strips the words."""


def tagged(conversation: Conversation) -> Conversation:
    """The conversation with the tag after its last words: the content, or the reasoning where there
    is nothing else.

    Raises:
        InvalidRequest: the last message calls tools, after which nothing can be said.
    """
    last = conversation.messages[-1]
    if last.tool_calls:
        raise InvalidRequest(
            "a message with tool calls cannot be continued; end with its content, or with results",
            param=f"messages.{len(conversation.messages) - 1}.tool_calls",
        )
    if last.reasoning and not last.content:
        last = replace(last, reasoning=last.reasoning + SPACED)
    else:
        last = replace(last, content=last.content + SPACED)
    return replace(conversation, messages=(*conversation.messages[:-1], last))


def cut(rendered: str, conversation: Conversation) -> str:
    """What was rendered of the `tagged` conversation, up to the tag, with marks kept.

    Raises:
        InvalidRequest: the template does not show the whole message.
    """
    last = conversation.messages[-1]
    words = (last.content or last.reasoning).strip()
    text = plain(rendered)
    end = text.rfind(TAG)
    if end < 0 or words not in text:
        raise InvalidRequest(
            f"the chat template changes the words of the last message ({last.role}), so that they "
            "cannot be continued; send other words, or a turn of the user after them",
            param=f"messages.{len(conversation.messages) - 1}",
        )
    kept = unmarked(rendered)[:end]
    if TAG in kept:  # the template writes the words more than once
        kept = unmarked(kept.replace(SPACED, "").replace(TAG, ""))
    return kept if text.startswith(SPACED, end) else kept.rstrip()
