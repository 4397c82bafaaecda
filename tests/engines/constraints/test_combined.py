"""Rules made of rules."""

from __future__ import annotations

import numpy as np
from loguru import logger

from llmserve.engines.constraints.combined import AllOf
from llmserve.engines.token_rule import Words


class Only:
    """Allows some tokens of 64; complete after `length` of them."""

    def __init__(self, *allowed: int, is_idle: bool = False, length: int = 99) -> None:
        self.allowed = allowed
        self.is_idle = is_idle
        self.length = length
        self.seen: list[int] = []

    @property
    def is_complete(self) -> bool:
        return len(self.seen) >= self.length

    def restrict(self, words: Words) -> None:
        mine = np.zeros(2, np.int32)
        for i in self.allowed:
            mine[i // 32] |= 1 << i % 32
        words &= mine

    def accept(self, token_id: int) -> None:
        self.seen.append(token_id)


def left(rule: AllOf) -> set[int]:
    words = np.full(2, -1, np.int32)
    rule.restrict(words)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return {int(i) for i in np.flatnonzero(bits)}


def test_where_nothing_is_left_the_first_holds_alone_and_it_is_logged_once() -> None:
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="WARNING")
    try:
        rule = AllOf(Only(1, 2), [Only(2, 3), Only(4)])
        assert left(rule) == {1, 2}
        assert left(rule) == {1, 2}
    finally:
        logger.remove(sink)
    assert len(told) == 1


def test_all_rules_hold_and_idle_ones_are_not_asked() -> None:
    idle = Only(5, is_idle=True)
    rule = AllOf(Only(1, 2, 40), [Only(2, 40, 7), idle])
    assert left(rule) == {2, 40}
    assert not rule.is_idle
    rule.accept(2)
    assert idle.seen == [2], "an idle rule hears of every token"


def test_without_a_form_others_hold_and_nothing_ends() -> None:
    rule = AllOf(None, [Only(1, 2, length=0), Only(2)])
    assert left(rule) == {2}
    assert not rule.is_complete
    assert AllOf(None, []).is_idle
    assert AllOf(Only(1, length=0), []).is_complete
