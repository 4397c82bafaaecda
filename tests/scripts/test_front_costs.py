"""scripts/bench-front: its arithmetic, and a smoke run of all that it starts."""

from __future__ import annotations

import pytest
from measure.gateway.front_costs import Streams, main, per_request_and_token


def test_two_loads_tell_requests_and_tokens_apart() -> None:
    short, long = Streams(100, 2, 1), Streams(10, 500, 1)
    of_each = 0.003, 0.00005
    spent = [load.requests * (of_each[0] + load.tokens * of_each[1]) for load in (short, long)]
    assert per_request_and_token(short, spent[0], long, spent[1]) == pytest.approx(of_each)


@pytest.mark.slow
def test_a_smoke_run_measures_a_front(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "8 requests of 2 tokens, s | 4 requests of 16 tokens, s" in lines[2]
    assert len(lines) == 5
