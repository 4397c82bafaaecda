from __future__ import annotations

import io
import json

from rich.console import Console

from llmserve.doctor import Finding, Report, Verdict, render

OK = Finding("one", Verdict.OK, "fine")
WARNING = Finding("two", Verdict.WARNING, "[red]not markup[/]", ("nginx: `do this [exactly];`",))
PROBLEM = Finding("three", Verdict.PROBLEM, "broken", ("change that",), {"figure": 1.5})


def printed(*findings: Finding) -> str:
    out = io.StringIO()
    render(Report("http://host", findings), Console(file=out, width=100))
    return out.getvalue()


def test_only_problems_make_the_command_fail() -> None:
    assert Report("u", (OK, WARNING)).exit_code == 0
    assert Report("u", (OK, PROBLEM)).exit_code == 1


def test_what_a_server_said_is_not_taken_for_markup() -> None:
    assert "[red]not markup[/]" in printed(WARNING)


def test_every_change_is_a_line_that_can_be_copied() -> None:
    text = printed(WARNING, PROBLEM)
    assert "  nginx: `do this [exactly];`\n" in text
    assert "  change that\n" in text
    assert "1 warning, 1 problem" in text


def test_nothing_to_change_has_no_heading() -> None:
    assert "What to change" not in printed(OK)


def test_the_report_is_json() -> None:
    body = json.loads(json.dumps(Report("http://host", (OK, PROBLEM)).as_json()))
    assert body["exit_code"] == 1
    assert body["findings"][1] == {
        "name": "three",
        "verdict": "problem",
        "seen": "broken",
        "change": ["change that"],
        "figures": {"figure": 1.5},
    }
