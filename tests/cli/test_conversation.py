"""`llmserve chat` against a server: commands, lines that go on, tools."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from server import Server
from typer.testing import CliRunner

from llmserve.cli.conversation import Conversation
from llmserve.cli.main import app

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def typed(demo: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def conversation(*lines: str, **fields: Any) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        Conversation(demo.url, {"temperature": 0, **fields}, None, None).run()
        return capsys.readouterr().out

    return conversation


def saved(path: Path) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(path.read_text())["messages"]
    return messages


def test_wrong_commands_and_files_are_told_and_the_conversation_goes_on(typed: Any) -> None:
    out = typed("/nonsense", "/save /nowhere/x", "/help", "/model nobody", "Hi", "/model", "Hi")
    assert "there is no /nonsense" in out
    assert "not saved" in out
    assert "/system TEXT" in out
    assert "'nobody' is not served" in " ".join(out.split())
    assert "tokens/s" in out


def test_a_conversation_is_saved_as_a_request_has_it(typed: Any, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    typed("Hello", "/system Be brief.", '"""How do I', 'warm a model?"""', f"/save {path}")
    system, user, assistant = saved(path)
    assert system == {"role": "system", "content": "Be brief."}
    assert user == {"role": "user", "content": "How do I\nwarm a model?"}
    assert assistant["role"] == "assistant"
    typed("one \\", "two", f"/save {path}")
    assert saved(path)[0]["content"] == "one \ntwo"
    typed("/system Be brief.", "Hello", "/clear", f"/save {path}")
    assert saved(path) == [{"role": "system", "content": "Be brief."}]
    typed("/system Be brief.", "/system", f"/save {path}")
    assert saved(path) == []


def test_whoever_asks_says_what_a_tool_returns(typed: Any, tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    question, result = "What is the weather in Paris?", '{"degrees": 18, "sky": "sunny"}'
    out = typed(question, result, f"/save {path}", tools=[TOOL])
    assert 'get_weather {"city": "Paris"}' in out
    assert "get_weather returns>" in out
    assert "It is 18 degrees and sunny in Paris." in out
    roles = [message["role"] for message in saved(path)]
    assert roles == ["user", "assistant", "tool", "assistant"]
    cut_off = typed(question, tools=[TOOL])
    assert "get_weather returns>" in cut_off


def test_tools_that_are_no_list_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    for text, why in (("{}", "is not a JSON list"), ("{", "cannot be read")):
        path.write_text(text)
        told = CliRunner().invoke(app, ["chat", "--tools", str(path)])
        assert why in str(told.exception)
