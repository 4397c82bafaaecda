"""OpenAI's codex, which speaks the Responses API alone, runs a command and reads its output."""

from __future__ import annotations

from pathlib import Path

from clients_page import blocks
from note_task import ANSWER, QUESTION, check_trip, reads_the_note, run_agent
from scripted_server import scripted_server

TOOL = "exec_command"
ASIDE = """
check_for_update_on_startup = false
analytics.enabled = false
"""
RETRIES = """
request_max_retries = 0
stream_max_retries = 0
"""


def test_codex_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    home = tmp_path / "codex"
    home.mkdir()
    with scripted_server(reads_the_note(TOOL, {"cmd": "cat note.txt"})) as server:
        [config] = blocks("toml", server.url, "fake")
        (home / "config.toml").write_text(ASIDE + config + RETRIES)
        told = run_agent(
            tmp_path,
            "npm install -g @openai/codex",
            ["codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access",
             QUESTION],
            {"CODEX_HOME": str(home)},
        )  # fmt: skip
    assert ANSWER in told
    check_trip(server.engine.asked, TOOL)
    first = server.engine.asked[0]
    assert (first[0].role, first[-1].content) == ("developer", QUESTION)
