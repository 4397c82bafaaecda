"""OpenAI's codex, which speaks the Responses API alone, runs a command and reads its output."""

from __future__ import annotations

from pathlib import Path

from note_task import ANSWER, QUESTION, check_trip, reads_the_note, run_agent
from scripted_server import scripted_server

TOOL = "exec_command"
CONFIG = """
model = "fake"
model_provider = "llmserve"
web_search = "disabled"
check_for_update_on_startup = false

[features]
multi_agent = false

[analytics]
enabled = false

[model_providers.llmserve]
name = "llmserve"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def test_codex_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    home = tmp_path / "codex"
    home.mkdir()
    with scripted_server(reads_the_note(TOOL, {"cmd": "cat note.txt"})) as server:
        (home / "config.toml").write_text(CONFIG.format(url=server.url))
        told = run_agent(
            tmp_path,
            "@openai/codex",
            ["codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access",
             QUESTION],
            {"CODEX_HOME": str(home)},
        )  # fmt: skip
    assert ANSWER in told
    check_trip(server.engine.asked, TOOL)
    first = server.engine.asked[0]
    assert (first[0].role, first[-1].content) == ("developer", QUESTION)
