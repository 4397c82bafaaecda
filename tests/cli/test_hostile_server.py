"""What a server says is shown, and is no command to the terminal; what is no answer is told."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from llmserve.bench.report import Report
from llmserve.cli.conversation import Conversation
from llmserve.cli.main import app
from llmserve.doctor.finding import Finding, Verdict
from llmserve.doctor.rendering import render
from llmserve.doctor.report import Report as DoctorReport
from llmserve.errors import LLMServeError

EVIL = "\x1b]0;owned\x07[/red]\x9b2J"
MODEL = {"name": EVIL, "status": EVIL, "running": 0, "waiting": 0, "memory_bytes": 0}
WORKER = {
    "worker": 0, "pid": 1, "state": EVIL, "device": EVIL, "uptime_seconds": 1, "rss_bytes": 0,
    "connections": 0, "models": [MODEL],
}  # fmt: skip
ERROR = {"error": {"message": EVIL}}


@contextlib.contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """One that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class calls it so

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def shown(result: Result) -> str:
    """All of the output, which has no command in it."""
    text = result.stdout + result.stderr
    assert not any(c in text for c in "\x1b\x07\x9b"), repr(text)
    return text


def events(*named: tuple[str, object]) -> bytes:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in named).encode()


def llmserve(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        # Our own errors end in `main`, which prints them as one line.
        assert isinstance(result.exception, LLMServeError), repr(result.exception)
    return result


def test_ps_shows_names_and_errors_as_text() -> None:
    silent = [{"worker": EVIL, "error": {"message": EVIL}}]
    body = json.dumps({"workers": [WORKER], "silent": silent}).encode()
    with server(200, body) as url:
        assert r"\x1b]0;owned\x07[/red]\x9b2J" in shown(llmserve("ps", "--url", url))
        shown(llmserve("ps", "--json", "--url", url))


def test_ps_tells_background_work_apart() -> None:
    model = MODEL | {"name": "m", "status": "ready", "running": 2, "background_running": 16}
    worker = WORKER | {"state": "serving", "device": "cpu", "models": [model]}
    with server(200, json.dumps({"workers": [worker], "silent": []}).encode()) as url:
        assert "2 +16" in shown(llmserve("ps", "--url", url))


@pytest.mark.parametrize("command", ["load", "warm"])
def test_commands_show_reports_as_text(command: str) -> None:
    done = {"worker": EVIL, "ok": True, "model": EVIL, "seconds": EVIL, "warning": EVIL}
    failed = {"worker": EVIL, "ok": False} | ERROR
    progress = {"worker": EVIL, "name": EVIL, "status": EVIL}
    report = {"ok": False, "workers": [done, failed]}
    with server(200, events(("progress", progress), ("done", report))) as url:
        result = llmserve(command, "--url", url)
    assert result.exit_code == 1
    assert r"failed: \x1b]0;owned" in shown(result)


@pytest.mark.parametrize(
    "body", [b"", EVIL.encode(), b"[]", b"3", b'{"workers": 3}', b'{"workers": [{}]}',
             events(("done", [])), events(("progress", {})), b"data: {\n\n"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["ps", "load"])
def test_an_answer_that_is_none_is_one_of_our_errors(command: str, body: bytes) -> None:
    with server(200, body) as url:
        assert llmserve(command, "--url", url).exit_code == 1


@pytest.mark.parametrize("url", ["http://[::1", "http://x:abc", "http://x:99999", "http://.."])
def test_a_url_that_is_none_is_one_of_our_errors(url: str) -> None:
    assert llmserve("ps", "--url", url).exit_code == 1
    assert llmserve("bench", url).exit_code == 1
    assert llmserve("chat", url).exit_code == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'data: {"choices": [{"delta": {"content": %s}}]}\n\n' % json.dumps(EVIL).encode()),
        (200, b"data: %s\n\n" % json.dumps(ERROR).encode()),
        (200, b"data: nonsense \x1b\x07\n\n"),
        (200, b'data: {"choices": 3}\n\n'),
        (500, json.dumps(ERROR).encode()),
        (500, EVIL.encode()),
    ],
)
def test_chat_shows_answers_and_errors_as_text(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(status, body) as url:
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
        Conversation(url, {}, None, None).run()
    out = capsys.readouterr().out
    assert not any(c in out for c in "\x1b\x07\x9b"), repr(out)
    assert len(out.strip()) > len("you>")


def test_our_own_errors_are_printed_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmserve.cli.main import main

    with server(403, json.dumps(ERROR).encode()) as url:
        monkeypatch.setattr("sys.argv", ["llmserve", "ps", "--url", url])
        with pytest.raises(SystemExit) as exit_:
            main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "llmserve: \\x1b]0;owned\\x07[/red]\\x9b2J\n"


def printed(*things: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    for thing in things:
        console.print(thing)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_bench_and_doctor_show_what_a_server_said_as_text() -> None:
    report = Report(
        requests=1, succeeded=0, seconds=1.0, errors={EVIL: 1}, input_tokens=0, output_tokens=0,
        is_counted_by_server=True, output_tokens_per_second=0.0, total_tokens_per_second=0.0,
        requests_per_second=0.0, good=None, goodput=None, ttft=None, itl=None, e2e=None,
    )  # fmt: skip
    text = printed(*report.tables())
    console = Console(file=io.StringIO(), width=200)
    finding = Finding("headers", Verdict.PROBLEM, EVIL, change=(EVIL,))
    render(DoctorReport("http://x", (finding,)), console)
    assert isinstance(console.file, io.StringIO)
    text += console.file.getvalue()
    assert text.count(r"\x1b]0;owned\x07[/red]\x9b2J") == 3
    assert not any(c in text for c in "\x1b\x07\x9b")
