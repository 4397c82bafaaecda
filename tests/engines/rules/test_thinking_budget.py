"""When the end marker is forced, and that it is forced once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from engines.rules.vocabulary import allowed
from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.rules.thinking_budget import ThinkingBudget

EVERYTHING = set(range(64))
START, END = (10, 11), (20, 21, 22)


def rule(budget: int, *, starts_inside: bool = True) -> ThinkingBudget:
    return ThinkingBudget(budget, END, starts_inside=starts_inside, start=START)


def say(budget: ThinkingBudget, ids: Iterable[int]) -> list[bool]:
    """Take these tokens; whether any token might have come in the place of each."""
    free = []
    for token_id in ids:
        assert token_id in allowed(budget)
        free.append(budget.is_idle)
        budget.accept(token_id)
    return free


def test_after_the_budget_only_the_marker_may_come_and_then_anything() -> None:
    budget = rule(2)
    assert say(budget, (1, 2)) == [True, True]
    for token_id in END:
        assert allowed(budget) == {token_id}
        budget.accept(token_id)
    assert all(say(budget, range(60)))


def test_a_budget_of_nothing_ends_it_at_once() -> None:
    assert allowed(rule(0)) == {END[0]}


def test_outside_of_the_reasoning_nothing_is_counted() -> None:
    budget = rule(1, starts_inside=False)
    assert all(say(budget, (1, 10, 2, 11, 10, 11)))
    assert say(budget, (5,)) == [True]
    assert allowed(budget) == {END[0]}


def test_without_a_marker_before_it_no_reasoning_begins() -> None:
    budget = ThinkingBudget(0, END, starts_inside=False)
    assert all(say(budget, range(60)))


def test_what_the_model_has_written_of_the_marker_is_not_written_again() -> None:
    budget = rule(3)
    say(budget, (1, 20, 21))
    assert allowed(budget) == {22}
    again = rule(2)
    say(again, (20, 20))
    assert allowed(again) == {21}


def test_reasoning_that_the_model_ends_itself_is_over() -> None:
    budget = rule(50)
    assert all(say(budget, (1, *END, *START, *range(50))))


def test_a_marker_of_one_token_may_be_the_last_of_the_budget() -> None:
    budget = ThinkingBudget(1, (20,), starts_inside=True)
    say(budget, (20,))
    assert allowed(budget) == EVERYTHING


@pytest.mark.parametrize("end", [(20,), (20, 21), (20, 20, 21), (20, 21, 20, 22)])
@given(ids=st.lists(st.sampled_from([1, 20, 21, 22]), max_size=12), budget=st.integers(0, 8))
def test_the_reasoning_ends_within_the_budget_and_one_marker(
    end: tuple[int, ...], ids: list[int], budget: int
) -> None:
    ruled = ThinkingBudget(budget, end, starts_inside=True)
    said: list[int] = []
    for wish in itertools.chain(ids, itertools.repeat(1, 20)):
        choices = allowed(ruled)
        assert choices == EVERYTHING or len(choices) == 1
        said.append(wish if wish in choices else choices.pop())
        ruled.accept(said[-1])
        if tuple(said[-len(end) :]) == end:
            break
    assert tuple(said[-len(end) :]) == end
    assert len(said) <= budget + len(end)
    assert ruled.is_idle
