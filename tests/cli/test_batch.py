"""`llmserve batch` before it has a server, and with one that is none of ours."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from llmserve.cli import batch_client
from llmserve.cli.batch import fetch, status, submit
from llmserve.errors import ConfigurationError, ServerUnreachable

URL = "http://127.0.0.1:9"


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server answers to everything."""
    answers: list[str] = []

    def client(**arguments: object) -> httpx.Client:
        arguments["transport"] = httpx.MockTransport(lambda _: httpx.Response(200, text=answers[0]))
        return real(**arguments)  # type: ignore[arg-type]  # passed on as it came

    real = httpx.Client
    monkeypatch.setattr(batch_client.httpx, "Client", client)
    return answers


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 1, "request_counts": []}', "<html>"])
def test_an_answer_that_is_none_is_one_of_our_errors(says: list[str], text: str) -> None:
    says.append(text)
    with pytest.raises(ServerUnreachable, match="not llmserve"):
        status("batch_1", url=URL)
    with pytest.raises(ServerUnreachable, match="not llmserve"):
        fetch("batch_1", url=URL)


def test_what_a_server_says_commands_no_terminal(
    says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    says.append(
        '{"id": "\\u001b[2J", "status": "completed", '
        '"request_counts": {"total": 1, "completed": 1, "failed": 0}}'
    )
    status("batch_1", url=URL)
    assert capsys.readouterr().out == "\\x1b[2J  completed  1/1\n"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        submit(tmp_path / "nothing", url=URL)
    (tmp_path / "x").write_text("not JSON")
    with pytest.raises(ConfigurationError, match="--endpoint"):
        submit(tmp_path / "x", url=URL)
