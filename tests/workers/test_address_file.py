"""The file that tells where a server is: what is in its way first."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmserve.errors import ConfigurationError
from llmserve.settings import load_settings
from llmserve.workers.address_file import published, published_url, url_here


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("10.1.2.3", "http://10.1.2.3:80"),
        ("localhost", "http://localhost:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("fd00::5", "http://[fd00::5]:80"),
    ],
)
def test_the_url_is_one_that_this_machine_can_ask(host: str, url: str) -> None:
    assert url_here(host, 80) == url


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with published(tmp_path / "file" / "address", "::1", 1):
        pass
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with published(tmp_path / "folder", "::1", 1):
        assert published_url(tmp_path / "folder") is None
    assert (tmp_path / "folder" / "inside").is_dir()


def test_the_file_is_there_while_the_server_is(tmp_path: Path) -> None:
    file = tmp_path / "new" / "address"
    with published(file, "127.0.0.1", 1):
        assert file.read_text() == "http://127.0.0.1:1\n"
        assert [f.name for f in file.parent.iterdir()] == ["address"]
    assert not file.exists()
    assert published_url(file) is None


def test_the_file_of_a_later_server_stays(tmp_path: Path) -> None:
    file = tmp_path / "address"
    with published(file, "127.0.0.1", 1), published(None, "127.0.0.1", 3):
        file.write_text("http://127.0.0.1:2\n")
    assert published_url(file) == "http://127.0.0.1:2"


def test_a_port_that_nobody_can_tell_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="which free port"):
        load_settings({"reload": True, "port": 0, "address_file": "x"})
