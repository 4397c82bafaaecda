"""What prompts begin with."""

from __future__ import annotations

from llmserve.engines.prefix import common_beginning


def test_what_prompts_begin_with() -> None:
    assert common_beginning([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == (1, 2)
    assert common_beginning([[1], [2]]) == ()
