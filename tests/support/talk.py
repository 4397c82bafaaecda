"""Conversations of whatever users may write, control tokens among it."""

from __future__ import annotations

from chat_families import CONTROL, THINK
from hypothesis import strategies as st

from llmserve.domain import Conversation, Message, Role

words = st.lists(
    st.one_of(
        st.sampled_from(
            [*CONTROL, *THINK, "<", "|end|>", "<|", "s>", " ", "\n", "<tool_response>"]
        ),
        st.text(max_size=4),
        st.text(alphabet="ab <>|/\n", max_size=8),
    ),
    max_size=8,
).map("".join)


def conversation(texts: list[str], *, system: str | None = None) -> Conversation:
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    return Conversation((*([] if system is None else [Message("system", system)]), *turns))
