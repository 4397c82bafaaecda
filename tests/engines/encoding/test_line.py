"""Who is computed next."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmserve.engines.encoding.line import Line


def test_a_small_request_is_in_the_next_batch_beside_one_of_thousands() -> None:
    line: Line[str] = Line()
    line.add("large", [10] * 2048, caller="ann")
    line.take(100)
    line.add("small", [10], caller="ann")
    assert ("small", 0) in line.take(100)


def test_callers_share_by_their_priorities_however_many_requests_they_have() -> None:
    line: Line[str] = Line()
    for number in range(20):
        line.add(f"ann-{number}", [10] * 100, caller="ann")
    line.add("bob", [10] * 100, caller="bob")
    line.add("eve", [10] * 100, caller="eve", priority=2)
    taken = Counter(job.partition("-")[0] for job, _ in line.take(800))
    assert taken == {"ann": 20, "bob": 20, "eve": 40}


def test_an_unused_share_is_not_saved_up() -> None:
    line: Line[str] = Line()
    line.add("early", [10] * 1000, caller="ann")
    line.take(5000)
    line.add("late", [10] * 100, caller="bob")
    taken = Counter(job for job, _ in line.take(400))
    assert taken == {"early": 20, "late": 20}


def test_who_comes_back_has_not_lost_its_account() -> None:
    line: Line[str] = Line()
    line.add("ann", [10] * 100, caller="ann")
    line.add("bob-1", [90], caller="bob")
    assert Counter(job for job, _ in line.take(100)) == {"ann": 1, "bob-1": 1}
    line.add("bob-2", [10], caller="bob")
    assert Counter(job for job, _ in line.take(80)) == {"ann": 8}
    assert ("bob-2", 0) in line.take(20)


def test_background_work_has_what_nobody_else_wants() -> None:
    line: Line[str] = Line()
    line.add("batch", [10] * 3, caller="ann", is_background=True)
    line.add("chat", [10] * 2, caller="bob")
    assert {job for job, _ in line.take(1000)} == {"chat"}
    assert line.take(20) == [("batch", 0), ("batch", 1)]
    assert line.take(20) == [("batch", 2)]


def test_what_is_removed_does_not_come() -> None:
    line: Line[str] = Line()
    line.add("a", [10, 20], caller="ann")
    line.add("b", [10], caller="ann")
    line.remove("a")
    line.remove("a")
    assert line.take(1000) == [("b", 0)]
    assert not line
    line.remove("b")


def test_an_input_larger_than_the_budget_comes_alone() -> None:
    line: Line[str] = Line()
    line.add("a", [500, 5], caller="ann")
    assert line.take(100) == [("a", 1)]
    assert line.take(100) == [("a", 0)]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 60), min_size=1), st.booleans())
    ),
    st.integers(1, 200),
)
def test_everything_comes_once_and_within_the_budget(
    jobs: list[tuple[str, list[int], bool]], budget: int
) -> None:
    line: Line[int] = Line()
    numbers = [1000 + number for number in range(len(jobs))]
    for number, (caller, sizes, is_background) in zip(numbers, jobs, strict=True):
        line.add(number, sizes, caller=caller, is_background=is_background)
    seen: list[tuple[int, int]] = []
    while batch := line.take(budget):
        sizes = [jobs[job - 1000][1][index] for job, index in batch]
        assert len(batch) == 1 or sum(sizes) <= budget
        seen += batch
    assert sorted(seen) == sorted(
        (number, index)
        for number, (_, sizes, _) in zip(numbers, jobs, strict=True)
        for index in range(len(sizes))
    )
    assert not line
