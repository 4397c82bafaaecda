"""aider, by chat completions, edits a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clients_page import blocks
from note_task import run_agent
from scripted_server import scripted_server

from llmserve.domain import Delta, Message

EDIT = """note.txt
```
<<<<<<< SEARCH
a quick fox
=======
a quick dog
>>>>>>> REPLACE
```
"""


def edits(messages: Sequence[Message]) -> Delta:
    assert "Make the fox a dog." in messages[-1].content
    assert any("a quick fox" in message.content for message in messages)
    return Delta(EDIT, (7,))


def test_aider_is_answered_with_an_edit(tmp_path: Path) -> None:
    with scripted_server(edits) as server:
        _, config, _ = blocks("yaml", server.url, "fake")
        (tmp_path / ".aider.conf.yml").write_text(config)
        quiet = ["--no-git", "--yes-always", "--no-check-update", "--no-analytics"]
        told = run_agent(
            tmp_path,
            "pip install aider-chat",
            [
                "aider",
                *quiet,
                "--edit-format",
                "diff",
                "--message",
                "Make the fox a dog.",
                "note.txt",
            ],
            {"AIDER_SHOW_MODEL_WARNINGS": "false"},
        )
    assert "Applied edit to note.txt" in told
    assert (tmp_path / "note.txt").read_text() == "a quick dog\n"
