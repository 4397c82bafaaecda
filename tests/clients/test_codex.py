"""OpenAI's codex, which speaks nothing but the Responses API, runs a command and reads its output.

It is some 400 MB and not installed by scripts/test: `npm install -g @openai/codex`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted_server import scripted_server

from llmserve.domain import Delta, Message, ToolCallDelta

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


def script(messages: Sequence[Message]) -> Delta:
    """It reads a file, and then says what it read."""
    if messages[-1].role != "tool":
        call = ToolCallDelta(0, json.dumps({"cmd": "cat note.txt"}), "call_1", "exec_command")
        return Delta("", (7,), calls=(call,))
    says = "fox" if "a quick fox" in messages[-1].content else "nothing"
    return Delta(f"The note is about: {says}.", (7,))


def test_codex_runs_a_command_and_is_answered(tmp_path: Path) -> None:
    codex = shutil.which("codex")
    if codex is None:
        pytest.skip("codex is missing; `npm install -g @openai/codex` to run this test")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "note.txt").write_text("a quick fox\n")
    with scripted_server(script) as server:
        (home / "config.toml").write_text(CONFIG.format(url=server.url))
        done = subprocess.run(
            [codex, "exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access",
             "-C", work, "What is in note.txt?"],
            env=os.environ | {"CODEX_HOME": str(home), "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )  # fmt: skip
        asked = server.engine.asked
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The note is about: fox." in done.stdout
    first, second = asked
    assert (first[0].role, first[-1].content) == ("developer", "What is in note.txt?")
    assert second[: len(first)] == first
    assert [message.role for message in second[len(first) :]] == ["assistant", "tool"]
    assert second[-2].tool_calls[0].name == "exec_command"
