"""scripts/simulate: queues are those that arithmetic predicts, and every request ends once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from measure.simulation.__main__ import main
from measure.simulation.box_limits import BoxLimits
from measure.simulation.cell import Cell, Run
from measure.simulation.profile import Profile
from measure.simulation.request import Request
from measure.simulation.routing import ROUTINGS
from measure.simulation.sessions import Sessions
from measure.simulation.tally import Figures
from measure.simulation.text import Span, extended

from llmserve.domain import CallerLimits

# A step takes 10 ms, and 100 µs more for each token of a prompt.
PROFILE = Profile(
    source="made up",
    blocks=2_000,
    max_running=64,
    max_tokens_per_step=1_000,
    least_prompt_tokens=16,
    decode=[(1, 100, 10.0)],
    beside=(0, 0),
    prefill=[(100, 20.0)],
)
USERS = Sessions(12.0, 20.0, keys=5, system_prompts=8, system_tokens=512, answer_tokens=64)
FOREVER = 1_000.0


def request(source: int, at: float = 0.0, answer: int = 3, caller: str = "a") -> Request:
    return Request(caller, at, (Span(source, 100),), answer)


def run(cell: Cell, requests: Sequence[Request], end: float = FOREVER, seed: int = 1) -> Figures:
    """Whatever happens, each request ends once and leaves nothing behind."""
    simulated = Run(cell, requests, 0.0, end, seed)
    figures = simulated.figures()
    assert simulated.tally.num_sent == simulated.tally.num_ended
    assert figures.requests == figures.answered + sum(figures.refused.values())
    for box in simulated.boxes:
        box.check()
    return figures


def test_one_request_takes_the_time_of_its_steps() -> None:
    figures = run(Cell(PROFILE), [request(1)])
    assert figures.ttft_p99 == pytest.approx(0.020)
    assert figures.itl_p50 == figures.itl_p99 == pytest.approx(0.010)
    assert figures.tokens_per_second == pytest.approx(3 / FOREVER)
    assert figures.hit_share == 0.0
    assert figures.imbalance == 1.0


def test_with_one_place_whoever_comes_waits_for_all_before() -> None:
    cell = Cell(PROFILE, box_limits=BoxLimits(max_running=1))
    figures = run(cell, [request(source) for source in range(11)])
    assert figures.ttft_p50 == pytest.approx(5 * 0.040 + 0.020)
    assert figures.ttft_p99 == pytest.approx(10 * 0.040 + 0.020)


def test_streams_share_their_steps() -> None:
    figures = run(Cell(PROFILE), [request(source, answer=100) for source in range(8)])
    assert figures.itl_p50 == pytest.approx(0.010)
    assert figures.ttft_p99 == pytest.approx(0.010 + 0.080)


def test_more_than_may_wait_are_refused() -> None:
    cell = Cell(PROFILE, box_limits=BoxLimits(max_running=1, max_waiting=2))
    figures = run(cell, [request(source) for source in range(5)])
    assert figures.refused == {"queue_full": 2}


def test_a_caller_with_many_waiting_makes_room_for_another() -> None:
    cell = Cell(PROFILE, box_limits=BoxLimits(max_running=1, max_waiting=2))
    many = [request(source) for source in range(3)]
    figures = run(cell, [*many, request(9, caller="b")])
    assert figures.answered == 3
    assert figures.refused == {"queue_full": 1}


def test_nobody_waits_longer_than_the_timeout() -> None:
    cell = Cell(PROFILE, box_limits=BoxLimits(max_running=1, wait_timeout_seconds=1.0))
    later = [request(2, at=0.5), request(3, at=30.0), request(4, at=30.1, answer=1_000)]
    figures = run(cell, [request(1, answer=1_000), *later, request(5, at=31.0)])
    assert figures.refused == {"deadline_unreachable": 1, "wait_timeout": 1}


def test_what_can_never_fit_is_refused() -> None:
    figures = run(Cell(PROFILE), [request(1, answer=2_000 * 16)])
    assert figures.refused == {"context_length_exceeded": 1}


def test_a_full_cache_computes_again_and_loses_nobody() -> None:
    small = PROFILE.model_copy(update={"blocks": 64})
    figures = run(Cell(small), [request(source, answer=300) for source in range(8)])
    assert figures.answered == 8


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        (CallerLimits(requests_per_minute=2), 3),
        (CallerLimits(tokens_per_minute=250), 3),
        (CallerLimits(concurrency=1), 4),
    ],
    ids=["requests", "tokens", "concurrency"],
)
def test_keys_are_limited_by_the_front(limits: CallerLimits, refused: int) -> None:
    requests = [request(source) for source in range(5)]
    requests += [request(9, caller="b")]
    figures = run(Cell(PROFILE, boxes=4, routing="random", key_limits=limits), requests)
    assert figures.refused == {"rate_limit_exceeded": refused}


def test_each_front_limits_keys_for_itself() -> None:
    requests = [request(source) for source in range(50)]
    limits = CallerLimits(requests_per_minute=2)
    figures = run(Cell(PROFILE, fronts=3, key_limits=limits), requests)
    assert figures.answered == 6


def conversation(answer: int = 20) -> Request:
    first = request(1, answer=answer)
    first.then = Request("a", 5.0, extended(first.prompt, answer + 60), 2)
    return first


def test_a_conversation_goes_on_after_the_answer_and_finds_it_cached() -> None:
    figures = run(Cell(PROFILE), [conversation()])
    assert figures.answered == 2
    # Of 120 tokens the last was never computed, so 7 blocks of 16 are whole.
    assert figures.hit_share == pytest.approx(112 / (100 + 180))


def test_a_conversation_that_was_refused_does_not_go_on() -> None:
    figures = run(Cell(PROFILE), [conversation(answer=2_000 * 16)])
    assert figures.requests == 1


def test_what_was_sent_before_counting_begins_is_left_out() -> None:
    simulated = Run(Cell(PROFILE), [request(1), request(2, at=1.0)], 0.5, 1.5, 1)
    figures = simulated.figures()
    assert figures.requests == figures.answered == 1
    assert figures.tokens_per_second == pytest.approx(3.0)
    assert simulated.tally.num_ended == 2


@pytest.mark.parametrize("routing", ROUTINGS)
def test_the_same_seed_gives_the_same_figures(routing: str) -> None:
    cell = Cell(PROFILE, boxes=3, fronts=2, routing=routing, grain=8)
    figures = run(cell, USERS.requests(1), 8.0)
    assert run(cell, USERS.requests(1), 8.0) == figures
    assert run(cell, USERS.requests(2), 8.0) != figures


@pytest.mark.parametrize("routing", ROUTINGS)
def test_under_overload_every_request_ends_once(routing: str) -> None:
    cell = Cell(
        PROFILE.model_copy(update={"blocks": 300, "max_running": 2}),
        boxes=2,
        routing=routing,
        box_limits=BoxLimits(max_waiting=2, wait_timeout_seconds=5.0),
        key_limits=CallerLimits(concurrency=3),
        grain=4,
    )
    figures = run(cell, replace(USERS, rate=40.0).requests(1), USERS.seconds)
    assert {"queue_full", "rate_limit_exceeded"} <= figures.refused.keys()
    assert figures.answered > 0


def test_prefixes_are_found_where_they_were_sent_before() -> None:
    found = {
        routing: run(Cell(PROFILE, 4, routing=routing, grain=8), USERS.requests(1), USERS.seconds)
        for routing in ("random", "affine", "weighed")
    }
    assert found["affine"].hit_share > found["random"].hit_share + 0.1
    assert found["weighed"].hit_share > found["random"].hit_share + 0.1


def test_affinity_alone_piles_a_popular_prefix_on_one_box_and_weighing_does_not() -> None:
    users = replace(USERS, system_prompts=1, rate=20.0)
    alone, weighed = (
        run(Cell(PROFILE, 4, routing=routing, grain=8), users.requests(1), users.seconds)
        for routing in ("affine", "weighed")
    )
    assert alone.imbalance == 4.0
    assert weighed.imbalance < 1.5
    assert weighed.ttft_p99 < alone.ttft_p99


def test_many_fronts_know_less_of_what_is_cached_unless_keys_keep_to_theirs() -> None:
    one, many, by_key = (
        run(replace(cell, grain=8), USERS.requests(1), USERS.seconds)
        for cell in (
            Cell(PROFILE, 4),
            Cell(PROFILE, 4, fronts=8),
            Cell(PROFILE, 4, fronts=8, is_front_by_key=True),
        )
    )
    assert many.hit_share < by_key.hit_share
    assert by_key.hit_share == pytest.approx(one.hit_share, abs=0.03)


def test_fronts_by_key_hold_its_limits() -> None:
    requests = [request(source) for source in range(50)]
    limits = CallerLimits(requests_per_minute=2)
    cell = Cell(PROFILE, fronts=3, is_front_by_key=True, key_limits=limits)
    assert run(cell, requests).answered == 2


def test_coarse_grains_change_little_but_the_first_token() -> None:
    fine, coarse = (
        run(Cell(PROFILE, 2, routing="round-robin", grain=grain), USERS.requests(1), USERS.seconds)
        for grain in (1, 4)
    )
    assert coarse.tokens_per_second == pytest.approx(fine.tokens_per_second, rel=0.05)
    assert coarse.itl_p50 == pytest.approx(fine.itl_p50, rel=0.3)
    assert coarse.hit_share == pytest.approx(fine.hit_share, abs=0.05)


def test_the_command_prints_a_table_and_writes_the_same_for_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "found.json"
    assert main(["--quick", "--grain", "8", "--json", str(told)]) == 0
    table = capsys.readouterr().out.splitlines()
    found = json.loads(told.read_text(encoding="utf-8"))
    assert [row["routing"] for row in found["runs"]] == list(ROUTINGS)
    assert [line.split(" | ")[2] for line in table[2:]] == list(ROUTINGS)
    assert found["profile"] == "llama-3.1-8b-h200"
    assert all(row["answered"] and not row["refused"] for row in found["runs"])


def test_the_command_replays_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {
        "time": "2026-01-02T03:04:05.000+00:00", "request_id": "1", "key": "a", "model": "demo",
        "prompt_tokens": 20, "completion_tokens": 5, "cached_tokens": 0, "outcome": "stop",
        "queue_seconds": 0.0, "ttft_seconds": 0.1, "duration_seconds": 1.0,
    }  # fmt: skip
    log = tmp_path / "accounting.jsonl"
    log.write_text(f"{json.dumps(line)}\n" * 3, encoding="utf-8")
    assert main(["--log", str(log), "--boxes", "1", "--routing", "weighed"]) == 0
    assert "| 1 | 3 | weighed | 3 | - |" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    for wrong in (
        ["--boxes", "0"],
        ["--rate", "nan"],
        ["--routing", "best"],
        ["--profile", "x"],
        ["--max-waiting", "-1"],
        ["--speed", "2"],
        ["--turns", "2", "--log", "some"],
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert wrong[0] in capsys.readouterr().err
