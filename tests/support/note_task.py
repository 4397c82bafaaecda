"""What a coding agent is asked in a test: to read a file, for which it runs a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from scripted_server import Script

from llmserve.domain import Delta, Message, ToolCallDelta

QUESTION: Final = "What is in note.txt?"
ANSWER: Final = "The note is about: fox."
SECONDS: Final = 100.0


def reads_the_note(tool: str, arguments: Mapping[str, str]) -> Script:
    """A model that calls this tool when it is asked, and then says what it read."""

    def script(messages: Sequence[Message]) -> Delta:
        if not any(QUESTION in message.content for message in messages):
            return Delta("A title", (7,))
        if messages[-1].role != "tool":
            call = ToolCallDelta(0, json.dumps(dict(arguments)), "call_1", tool)
            return Delta("", (7,), calls=(call,))
        says = "fox" if "a quick fox" in messages[-1].content else "nothing"
        return Delta(f"The note is about: {says}.", (7,))

    return script


def run_agent(
    folder: Path, install: str, command: Sequence[str | Path], environment: Mapping[str, str]
) -> str:
    """What the agent prints, in a folder with the note, without a home of its own before. Agents
    are hundreds of megabytes, and scripts/test does not install them."""
    program = shutil.which(str(command[0]))
    if program is None:
        pytest.skip(f"{command[0]} is missing; `{install}` to run this test")
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "note.txt").write_text("a quick fox\n")
    known = {"HOME": str(home), "PWD": str(folder), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=os.environ | known | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_trip(asked: Sequence[Sequence[Message]], tool: str) -> None:
    """The last conversation is that with the question, and goes on with the call and its result."""
    first, second = [each for each in asked if any(QUESTION in m.content for m in each)][-2:]
    assert list(second[: len(first)]) == list(first)
    call, result = second[len(first) :]
    assert (call.role, result.role) == ("assistant", "tool")
    assert call.tool_calls[0].name == tool
    assert "a quick fox" in result.content
