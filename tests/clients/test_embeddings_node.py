"""Embeddings by OpenAI's client for Node and by Vercel's `ai`: both see the same numbers."""

from __future__ import annotations

import pytest
from client_session import Report, node_session
from server import Server


@pytest.fixture(scope="module")
def report(demo_host: Server) -> Report:
    return node_session("embeddings_session.mjs", demo_host.url, "demo-embedding")


def test_it_reads_bytes_and_digits_the_same(report: Report) -> None:
    assert len(report["vectors"]) == 3
    assert report["tokens"] > 0
    for one, other in zip(report["vectors"], report["digits"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_vercels_reads_the_same(report: Report) -> None:
    told = report["vercel"]
    for one, other in zip(told["vectors"], report["digits"], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert (told["tokens"], len(told["short"])) == (report["tokens"], 8)
    assert told["same"] == pytest.approx(1, abs=1e-5)
