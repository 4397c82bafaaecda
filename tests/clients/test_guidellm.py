"""guidellm: a short benchmark ends well, and every request has its tokens and times."""

from __future__ import annotations

from pathlib import Path

from client_session import python_session
from server import DEMO, Server


def test_a_short_benchmark_ends_well(demo_host: Server, tmp_path: Path) -> None:
    report = python_session("guidellm_session.py", demo_host.url, "demo", DEMO, tmp_path)
    assert report["counts"] == {"successful": 8, "errored": 0, "incomplete": 0}
    assert report["output_tokens"] == [8] * 8
    assert all(tokens >= 32 for tokens in report["prompt_tokens"])
    times = zip(report["seconds_to_first"], report["seconds"], strict=True)
    assert all(0 < first <= whole for first, whole in times)
