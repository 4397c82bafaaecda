"""Anthropic's Claude Code, by the Messages API, runs a command and reads its output."""

from __future__ import annotations

import json
import re
from pathlib import Path

from clients_page import blocks
from note_task import ANSWER, QUESTION, check_trip, reads_the_note, run_agent
from scripted_server import scripted_server

TOOL = "Bash"


def test_claude_code_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    call = {"command": "cat note.txt", "description": "Read the note"}
    with scripted_server(reads_the_note(TOOL, call)) as server:
        *_, exports = blocks("sh", server.url, "fake")
        told = run_agent(
            tmp_path,
            "npm install -g @anthropic-ai/claude-code",
            ["claude", "-p", QUESTION, "--allowedTools", TOOL, "--output-format", "json"],
            dict(re.findall(r"export (\w+)=(.*)", exports)) | {"DISABLE_AUTOUPDATER": "1"},
        )
    report = json.loads(told)
    assert (report["result"], report["is_error"], report["num_turns"]) == (ANSWER, False, 2)
    check_trip(server.engine.asked, TOOL)
