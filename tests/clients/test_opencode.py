"""opencode, by chat completions, runs a command and reads its output."""

from __future__ import annotations

from pathlib import Path

from clients_page import blocks
from note_task import ANSWER, QUESTION, check_trip, reads_the_note, run_agent
from scripted_server import scripted_server

TOOL = "bash"


def test_opencode_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    call = {"command": "cat note.txt", "description": "Read the note"}
    with scripted_server(reads_the_note(TOOL, call)) as server:
        [config] = blocks("json", server.url, "fake")
        (tmp_path / "opencode.json").write_text(config)
        told = run_agent(
            tmp_path,
            "npm install -g opencode-ai",
            ["opencode", "run", "--model", "llmserve/fake", QUESTION],
            {"OPENCODE_DISABLE_MODELS_FETCH": "1"},
        )
    assert ANSWER in told
    check_trip(server.engine.asked, TOOL)
