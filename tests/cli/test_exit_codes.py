"""Exit codes of commands for a running server: 1 for the server's fault, 2 for the caller's."""

from __future__ import annotations

import io
import socket

import pytest

from llmserve.cli.exit_codes import SERVER_FAILED, WRONG_USE
from llmserve.cli.main import main

COMMANDS = [
    ("ps", "--url"), ("load", "--url"), ("chat",), ("bench",), ("doctor",), ("health",),
    ("batch", "status", "--url"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["llmserve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_server_that_does_not_answer(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert exit_code(monkeypatch, *command, url) == SERVER_FAILED


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_url_that_is_none(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(monkeypatch, *command, "ftp://localhost") == WRONG_USE
