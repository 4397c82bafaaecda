"""`llmserve health`: every way of not being well first."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from server import free_port
from typer.testing import CliRunner, Result

from llmserve.cli.main import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Answers(BaseHTTPRequestHandler):
    """Alive, but not ready."""

    def do_GET(self) -> None:
        self.send_response({"/health": 200, "/health/ready": 503}.get(self.path, 404))
        self.end_headers()
        self.wfile.write(b'{"status":"loading"}')

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def alive(handler: type[BaseHTTPRequestHandler] = Answers) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["health", *arguments])


def test_nobody_there_is_not_well() -> None:
    result = health(f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "refused" in result.stderr


def test_silence_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = health(f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "timed out" in result.stderr


def answers(status: int, body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(Answers):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def test_an_answer_that_drips_has_one_deadline() -> None:
    going_on = threading.Event()

    class Drips(Answers):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                while not going_on.wait(0.05):
                    self.wfile.write(b"H")

    with alive(Drips) as port:
        begun = time.monotonic()
        result = health(f"http://127.0.0.1:{port}", "--timeout", "0.3")
        assert time.monotonic() - begun < 5
        going_on.set()
    assert result.exit_code == 1
    assert "timed out" in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x1b[2Jwelcome\x07",
        b'{"status":"ok"}',
        b"[]",
        b'{"status":["alive"]}',
        b"[" * 100_000,
    ],
)
def test_another_kind_of_server_is_not_ours_and_gives_the_terminal_no_commands(body: bytes) -> None:
    with alive(answers(200, body)) as port:
        result = health(f"http://127.0.0.1:{port}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not llmserve" in result.stderr
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr


def test_control_characters_of_our_own_server_are_escaped() -> None:
    body = '{"status":"alive","seconds_since_step":{"\\u001b[2J\x9b\x7f":1}}'.encode()
    with alive(answers(200, body)) as port:
        result = health(f"http://127.0.0.1:{port}")
    assert result.exit_code == 0
    assert not any(c in result.stdout for c in "\x1b\x9b")
    assert r"\u001b[2J" in result.stdout


def test_an_answer_about_many_models_is_read_to_its_end() -> None:
    models = [{"name": f"model-{number}", "status": "ready"} for number in range(1000)]
    body = json.dumps({"models": models, "status": "ready"}).encode()
    with alive(answers(200, body)) as port:
        assert health(f"http://127.0.0.1:{port}", "--ready").exit_code == 0


def test_what_is_no_http_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            connection, _ = odd.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = health(f"http://127.0.0.1:{odd.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 1


def test_loading_is_alive_and_not_ready() -> None:
    with alive() as port:
        url = f"http://127.0.0.1:{port}"
        lives, ready = health(url), health(url, "--ready")
    assert (lives.exit_code, ready.exit_code) == (0, 1)
    assert "503" in ready.stdout
    assert "loading" in ready.stdout


WRONG_URLS = [
    "localhost:8000", "ftp://localhost", "/health", "", "http://", "http://[::1", "http://x:abc",
    "http://x:99999", "http://..", "http://x:-1", "http://[x]", "http://x/a b", "http://x\x1b",
    "http://" + "a" * 70, "http://x/ü", "http://:8000",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_is_a_wrong_command_line(url: str) -> None:
    result = health(url)
    assert result.exit_code == 2
    assert "Invalid value for URL" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["http://[", "http://x:abc", "nonsense", "http://..", "\x00"])
def test_an_address_file_with_something_else_is_told(url: str) -> None:
    Path("llmserve.toml").write_text("address_file = 'address'\n")
    Path("address").write_text(url)
    result = health()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("llmserve: address_file address: ")
    assert "is not a server's URL" in result.stderr


def test_a_host_of_the_settings_that_is_none_is_told() -> None:
    Path("llmserve.toml").write_text("host = '..'\n")
    result = health()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "`host`" in result.stderr


@pytest.mark.parametrize(
    "text", ["port = 'many'", "port = 0", "port = 0\naddress_file = 'nothing-there'"]
)
def test_settings_that_do_not_tell_are_not_well(text: str) -> None:
    Path("llmserve.toml").write_text(text)
    result = health()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("llmserve: ")


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with alive() as port:
        assert health(f"http://127.0.0.1:{port}/").exit_code == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_the_port_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with alive() as port:
        Path("other.toml").write_text(f"host = '{host}'\nport = {port}\n")
        assert health("--config", "other.toml").exit_code == 0
        Path("llmserve.toml").write_text(f"host = '{host}'\nport = {port}\n")
        assert health().exit_code == 0
        monkeypatch.setenv("LLMSERVE_PORT", str(free_port()))
        assert health().exit_code == 1, "the environment beats the file"


def test_what_the_server_wrote_beats_the_settings() -> None:
    with alive() as port:
        Path("llmserve.toml").write_text(f"port = {free_port()}\naddress_file = 'address'\n")
        assert health().exit_code == 1
        Path("address").write_text(f"http://127.0.0.1:{port}\n")
        assert health().exit_code == 0
        assert health(f"http://127.0.0.1:{free_port()}").exit_code == 1, "a URL beats both"
