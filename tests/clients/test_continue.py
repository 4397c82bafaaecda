"""Continue's command line, by chat completions, runs a command and reads its output."""

from __future__ import annotations

from pathlib import Path

from clients_page import blocks
from note_task import ANSWER, QUESTION, check_trip, reads_the_note, run_agent
from scripted_server import scripted_server

TOOL = "Bash"


def test_continue_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    with scripted_server(reads_the_note(TOOL, {"command": "cat note.txt"})) as server:
        *_, config = blocks("yaml", server.url, "fake")
        (tmp_path / "config.yaml").write_text(config)
        told = run_agent(
            tmp_path,
            "npm install -g @continuedev/cli",
            ["cn", "--print", "--config", "config.yaml", "--allow", TOOL, QUESTION],
            {},
        )
    assert ANSWER in told
    check_trip(server.engine.asked, TOOL)
