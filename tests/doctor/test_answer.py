from __future__ import annotations

import httpx
import pytest

from llmserve.doctor import Verdict
from llmserve.doctor.answer import MAX_SHOWN, Refused, describe, error_message, one_line


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "null", '{"error": "text"}', '{"error": {"message": 5}}', "{"]
)
def test_another_shape_has_no_message(body: str) -> None:
    assert error_message(httpx.Response(400, text=body)) is None


def test_a_page_is_described_by_its_title() -> None:
    page = "<html><head><title>502 Bad\nGateway</title></head><body>nginx</body></html>"
    assert describe(httpx.Response(502, text=page)) == "502 Bad Gateway"


def test_what_a_terminal_obeys_is_not_shown() -> None:
    shown = one_line("a\x1b[2Jb\r\n\x07c\u202ed")
    assert shown.isprintable()
    assert "\u202e" not in shown


def test_a_strangers_words_are_cut() -> None:
    assert len(one_line("x" * 10_000)) == MAX_SHOWN


def test_a_busy_server_is_asked_another_time() -> None:
    busy = httpx.Response(429, json={"error": {"message": "every slot is taken"}})
    assert Refused.by(busy).finding("check").verdict is Verdict.SKIPPED


def test_a_proxys_own_503_is_a_problem() -> None:
    page = httpx.Response(503, text="<html><title>no backend</title></html>")
    assert Refused.by(page).finding("check").verdict is Verdict.PROBLEM
