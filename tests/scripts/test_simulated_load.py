"""What scripts/simulate replays: texts, made-up users, logs."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import mean, variance
from typing import Any

import pytest
from measure.simulation.accounting import LogError, read_log
from measure.simulation.request import Request
from measure.simulation.sessions import MOST_CONTEXT, Sessions
from measure.simulation.text import Span, beginning, extended, length, token_ids


def line(end: str, key: str = "a", prompt: int = 100, cached: int = 0, **more: Any) -> str:
    entry = {
        "time": f"2026-01-02T03:04:{end}+00:00", "request_id": "1", "key": key, "model": "demo",
        "prompt_tokens": prompt, "completion_tokens": 20, "cached_tokens": cached,
        "outcome": "stop", "queue_seconds": 0.0, "ttft_seconds": 0.1, "duration_seconds": 2.0,
    }  # fmt: skip
    return json.dumps(entry | more)


def log(folder: Path, *lines: str) -> Path:
    path = folder / "accounting.jsonl"
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return path


def shared(one: Request, other: Request) -> int:
    """How many tokens two prompts begin with alike."""
    pairs = list(zip(token_ids(one.prompt, 1), token_ids(other.prompt, 1), strict=False))
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(pairs))


@pytest.mark.parametrize("grain", [1, 2, 4, 8, 16])
def test_texts_that_begin_alike_have_ids_that_begin_alike(grain: int) -> None:
    system = (Span(0, 35),)
    one, other = (*system, Span(1, 50)), (*system, Span(2, 50))
    ids, others = token_ids(one, grain), token_ids(other, grain)
    assert len(ids) == -(-85 // grain)
    same = -(-35 // grain)
    assert ids[:same] == others[:same] == token_ids(system, grain)
    assert not {*ids[same:]} & {*others[same:]}
    assert token_ids(extended(one, 40), grain)[: len(ids)] == ids
    assert token_ids(beginning(one, 60), grain) == ids[: -(-60 // grain)]


def turns(first: Request) -> list[Request]:
    found, turn = [], first
    while turn is not None:
        found.append(turn)
        turn = turn.then
    return found


def test_each_turn_begins_with_what_was_said_before() -> None:
    users = Sessions(rate=10.0, seconds=100.0)
    conversations = [turns(first) for first in users.requests(1)]
    for conversation in conversations:
        assert shared(conversation[0], conversation[-1]) == length(conversation[0].prompt)
        for before, after in pairwise(conversation):
            said = extended(before.prompt, before.answer_tokens)
            assert token_ids(after.prompt, 1)[: length(said)] == token_ids(said, 1)
        assert length(conversation[-1].prompt) <= MOST_CONTEXT
    assert mean(map(len, conversations)) == pytest.approx(users.turns, rel=0.15)


def test_the_rate_is_held_from_the_start() -> None:
    users = Sessions(rate=10.0, seconds=100.0)
    conversations = [turns(first) for first in users.requests(1)]
    times = [at for each in conversations for at in accumulate(turn.at for turn in each)]
    assert min(times) >= 0.0
    for begin in (0.0, 50.0):
        sent = sum(begin <= at < begin + 50.0 for at in times)
        assert sent == pytest.approx(10.0 * 50.0, rel=0.2)


def test_users_share_system_prompts_and_the_first_is_the_most_popular() -> None:
    used = [each.prompt[0].source for each in Sessions(rate=100.0, seconds=30.0).requests(1)]
    assert {*used} == set(range(16))
    assert used.count(0) > 1.5 * used.count(1) > used.count(15)


def test_bursts_are_less_even_and_no_more() -> None:
    def per_second(*, is_bursty: bool) -> list[int]:
        users = Sessions(rate=100.0, seconds=60.0, is_bursty=is_bursty)
        counts = Counter(int(each.at) for each in users.requests(1))
        return [counts[second] for second in range(20, 60)]

    even, bursty = per_second(is_bursty=False), per_second(is_bursty=True)
    assert mean(bursty) == pytest.approx(mean(even), rel=0.2)
    assert variance(bursty) > 3 * variance(even)


def test_a_log_has_times_of_ends(tmp_path: Path) -> None:
    lines = line("08.000", duration_seconds=1.0), line("09.500", duration_seconds=4.0)
    requests = read_log(log(tmp_path, *lines))
    assert [each.at for each in requests] == [0.0, 1.5]
    assert [each.at for each in read_log(log(tmp_path, *lines), speed=3.0)] == [0.0, 0.5]
    assert [each.answer_tokens for each in requests] == [20, 20]


def test_what_was_cached_is_the_beginning_of_the_keys_latest_prompt(tmp_path: Path) -> None:
    lines = (
        line("03.000"), line("04.000", "b", prompt=90), line("05.000", prompt=180, cached=112),
        line("06.000", "b", prompt=200, cached=96), line("07.000", "c", cached=64),
    )  # fmt: skip
    first, second, third, fourth, fifth = read_log(log(tmp_path, *lines))
    assert shared(first, second) == 0
    assert shared(third, first) == 100  # and 12 of its answer
    assert shared(fourth, second) == 90
    assert shared(fifth, fourth) == 64
    assert [length(each.prompt) for each in (first, second, third)] == [100, 90, 180]


def test_requests_without_an_answer_are_left_out(tmp_path: Path) -> None:
    lines = line("03.000"), line("04.000", completion_tokens=0, outcome="queue_full")
    assert len(read_log(log(tmp_path, *lines))) == 1


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "no request that was answered"),
        ([line("03.000"), "what?"], "line 2"),
        ([line("03.000", prompt_tokens=-1)], "line 1: prompt_tokens"),
        (['{"time": "2026-01-02T03:04:05Z"}'], "line 1: key"),
    ],
    ids=["empty", "no JSON", "negative", "missing"],
)
def test_a_log_that_cannot_be_replayed_is_refused(
    tmp_path: Path, lines: list[str], problem: str
) -> None:
    with pytest.raises(LogError, match=problem):
        read_log(log(tmp_path, *lines))
