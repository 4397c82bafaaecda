"""The port for gRPC: taken, shared, kept."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trustme

from llmserve.errors import ConfigurationError
from llmserve.settings import Settings
from llmserve.workers.grpc_port import reserved_port


def shared_listener(port: int) -> socket.socket:
    """As gRPC listens in each worker."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_a_port_that_others_listen_on_is_taken_though_they_would_share_it() -> None:
    with shared_listener(0) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: .* `grpc_port`"),
            reserved_port(Settings(grpc_port=port)),
        ):
            pass


def test_a_port_that_another_server_has_reserved_is_taken() -> None:
    with (
        reserved_port(Settings(grpc_port=0)) as port,
        pytest.raises(ConfigurationError),
        reserved_port(Settings(grpc_port=port)),
    ):
        pass


def test_workers_share_the_port_and_only_they_get_connections() -> None:
    with reserved_port(Settings(grpc_port=0)) as port:
        assert port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with shared_listener(port) as first, shared_listener(port):
            for _ in range(20):
                socket.create_connection(("127.0.0.1", port)).close()
            assert first.getsockname()[1] == port


def test_a_missing_extra_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmserve.proto.extra.find_spec", lambda name: None)
    with (
        pytest.raises(ConfigurationError, match="grpc_port is set, and gRPC is not installed"),
        reserved_port(Settings(grpc_port=0)),
    ):
        pass


def test_certificates_are_tried_before_anything_starts(tmp_path: Path) -> None:
    authority = trustme.CA()
    own, other = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    own.private_key_pem.write_to_path(tmp_path / "own.key")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    (tmp_path / "nothing.pem").write_text("nothing")

    def reserve(cert: str, key: str, ca: str | None = None) -> None:
        settings = Settings(
            grpc_port=0,
            grpc_certfile=tmp_path / cert,
            grpc_keyfile=tmp_path / key,
            grpc_client_ca_file=None if ca is None else tmp_path / ca,
        )
        with reserved_port(settings) as port:
            assert port

    reserve("own.pem", "own.key", "own.pem")
    for files, words in (
        (("none.pem", "own.key"), "grpc_certfile .*none.pem .* cannot be used: No such file"),
        (("own.pem", "other.key"), "grpc_certfile .* cannot be used"),
        (("own.pem", "nothing.pem"), "grpc_certfile .* cannot be used"),
        (("own.pem", "own.key", "nothing.pem"), "grpc_client_ca_file .*nothing.pem cannot be used"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            reserve(*files)


def test_without_grpc_there_is_none() -> None:
    with reserved_port(Settings()) as port:
        assert port is None
