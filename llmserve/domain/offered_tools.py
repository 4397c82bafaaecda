"""What every transport checks of the tools that a client offers and chooses from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from llmserve.domain.constraint import Constraint
from llmserve.domain.tools import ToolChoice, ToolMode

MAX_TOOLS: Final = 1024
MAX_NAME: Final = 128
NAME_PATTERN: Final = r"^[\w.:/-]+$"
"""Of a function's name."""


def check_choice(choice: ToolChoice, names: Collection[str]) -> None:
    """Check that only tools are chosen that there are.

    Raises:
        ValueError: it is not so.
    """
    unknown = next((name for name in choice.names if name not in names), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not among the tools")
    if choice.mode is ToolMode.REQUIRED and not names:
        raise ValueError("a tool must be called and there are no tools")


def check_call_or_format(choice: ToolChoice, constraint: Constraint | None) -> None:
    """Check that an answer is not to be a call and a text of a form.

    Raises:
        ValueError: it is.
    """
    if choice.mode is ToolMode.REQUIRED and constraint is not None:
        raise ValueError(
            "a tool must be called, and a format for the answer's text is set; "
            "send one of tool_choice and the format"
        )


def check_different(names: Sequence[str]) -> None:
    """Check that each tool has a name of its own.

    Raises:
        ValueError: two have the same one.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two tools have the name {twice!r}")
