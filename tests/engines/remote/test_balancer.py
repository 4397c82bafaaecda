"""The choice among upstreams: cached share against load."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmserve.domain import Conversation, Message
from llmserve.engines.remote.balancer import Balancer
from llmserve.engines.remote.prefix_memory import (
    BLOCK_CHARACTERS,
    MOST_BLOCKS,
    PrefixMemory,
    digest_of,
)


@dataclass
class Box:
    running: int = 0
    prefixes: PrefixMemory = field(default_factory=PrefixMemory)


PROMPT = "once upon a time " * 40


def test_a_popular_beginning_does_not_pile_up_on_one_box() -> None:
    boxes = [Box(), Box(), Box(), Box()]
    balancer, digest = Balancer(), digest_of(PROMPT)
    for _ in range(200):
        chosen = balancer.best(boxes, digest)
        boxes[chosen].running += 1
        boxes[chosen].prefixes.add(digest)
    assert max(box.running for box in boxes) <= 2 * min(box.running for box in boxes)


def test_a_box_that_knows_the_prompt_gets_it_where_loads_differ_little() -> None:
    boxes = [Box(running=3), Box(running=1)]
    boxes[0].prefixes.add(digest_of(PROMPT))
    assert Balancer().best(boxes, digest_of(PROMPT + "and more")) == 0
    boxes[0].running = 30
    assert Balancer().best(boxes, digest_of(PROMPT + "and more")) == 1


def test_ties_are_broken_at_random() -> None:
    boxes = [Box(), Box()]
    numbers = iter([0.1, 0.9, 0.9, 0.1])
    balancer = Balancer(lambda: next(numbers))
    assert [balancer.best(boxes, ()), balancer.best(boxes, ())] == [1, 0]


def test_turns_of_a_conversation_begin_alike() -> None:
    first = (Message("system", PROMPT), Message("user", "x" * 200))
    later = (*first, Message("assistant", "yes"), Message("user", "y" * 200))
    one, two = digest_of(Conversation(first)), digest_of(Conversation(later))
    assert two[: len(one)] == one
    assert digest_of(Conversation(first), "salt")[0] != one[0]
    assert digest_of(PROMPT)[0] != one[0]


def test_only_whole_blocks_count_and_only_so_many() -> None:
    assert digest_of("x" * (BLOCK_CHARACTERS - 1)) == ()
    assert len(digest_of("x" * BLOCK_CHARACTERS)) == 1
    assert len(digest_of((5,) * 33)) == 2
    assert len(digest_of("x" * (BLOCK_CHARACTERS * (MOST_BLOCKS + 5)))) == MOST_BLOCKS


def test_the_oldest_is_forgotten_and_of_a_prompt_the_end_first() -> None:
    memory = PrefixMemory(capacity=4)
    first, second = digest_of("a" * 256), digest_of("b" * 64)
    memory.add(first)
    assert memory.share(first) == 1.0
    memory.add(second)
    assert memory.share(second) == 1.0
    assert memory.share(first) == 0.75
    memory.clear()
    assert memory.share(first) == 0.0
