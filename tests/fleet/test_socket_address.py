"""Sockets whose path has no room in an address; then those that have."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from open_files import num_open_files

from llmserve.fleet import socket_address as module
from llmserve.fleet.socket_address import MAX_BYTES, address_of, has_address


def greet(path: Path) -> bytes:
    """What a client hears that connects to the server which is bound to the path."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with address_of(path) as address:
            server.bind(address)
        server.listen()
        with address_of(path) as address:
            client.connect(address)
        server.accept()[0].sendall(b"hello")
        return client.recv(5)


@pytest.mark.parametrize("name", ["deep" * 40, "é" * 60])
def test_a_path_of_any_length_can_be_bound_and_connected_to(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "1.sock"
    path.parent.mkdir()
    assert len(os.fsencode(path)) > MAX_BYTES
    before = num_open_files()
    assert greet(path) == b"hello"
    assert num_open_files() == before
    assert path.is_socket()


def test_the_longest_path_that_fits_is_its_own_address(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (MAX_BYTES - len(os.fsencode(tmp_path)) - 1))
    assert len(os.fsencode(path)) == MAX_BYTES
    with address_of(path) as address:
        assert address == str(path)
    assert greet(path) == b"hello"


def test_where_there_is_no_way_around_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_FILES", tmp_path / "no-proc")
    assert has_address(Path("/run/llmserve/workers/1.sock"))
    assert not has_address(tmp_path / ("deep" * 40) / "1.sock")


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), address_of(tmp_path / ("deep" * 40) / "1.sock"):
        pass
