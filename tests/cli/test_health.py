"""`llmserve health`: every way of not being well first."""

from __future__ import annotations

import contextlib
import socket
import threading
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
def alive() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
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


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "/health"])
def test_a_wrong_url_is_a_wrong_command_line(url: str) -> None:
    assert health(url).exit_code == 2


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
