"""What a prompt counts where prompts compete for a model's threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bounded import run
from fake_engine import FakeEngine, LetterTokenizer

from llmserve.clock import awake_clock
from llmserve.domain import (
    Caller,
    Conversation,
    GenerationRequest,
    Message,
    ModelSpec,
    Prompt,
    Tool,
    ToolCall,
)
from llmserve.engines.task_builder import TaskBuilder


class MeasuringPool:
    """Works at once, and remembers the size of each prompt."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def run(self, work: Callable[[], Any], *, size: int, **fields: Any) -> Any:
        self.sizes.append(size)
        return work()


MESSAGE = Message("user", "x" * 10)
TALK = Conversation((MESSAGE,))


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("hello", 5),
        ((1, 2, 3), 3),
        (TALK, 12),
        (Conversation((MESSAGE,), tools=(Tool("find", "y" * 100),)), 112),
        (Conversation((MESSAGE,), template_options=" " * 50), 60),
        (Conversation((MESSAGE, Message("assistant", "", reasoning="z" * 20))), 32),
        (
            Conversation(
                (Message("assistant", "", tool_calls=(ToolCall("id", "find", "a" * 30),) * 2),)
            ),
            70,
        ),
    ],
)
def test_all_that_is_to_be_rendered_counts(prompt: Prompt, size: int) -> None:
    async def test() -> None:
        pool = MeasuringPool()
        tokenizer: Any = LetterTokenizer()
        builder = TaskBuilder(
            ModelSpec("fake"),
            tokenizer,
            FakeEngine.info,
            pool,  # type: ignore[arg-type] - a fake one
            awake_clock,
        )
        deadline = awake_clock() + 60
        await builder.build(
            [GenerationRequest("r", prompt)], Caller("a"), deadline, lambda: lambda: None
        )
        assert pool.sizes == [size]

    run(test)
