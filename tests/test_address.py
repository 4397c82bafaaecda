"""Addresses as URLs and sockets write them."""

from __future__ import annotations

import pytest

from llmserve.address import authority, plain_address, unmapped, without_brackets


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("example.org", "example.org:80"),
        ("::", "[::]:80"),
        ("2001:db8::7", "[2001:db8::7]:80"),
        ("fe80::1%eth0", "[fe80::1%25eth0]:80"),
    ],
)
def test_a_url_has_ipv6_in_brackets(host: str, written: str) -> None:
    assert authority(host, 80) == written


def test_a_socket_wants_none() -> None:
    assert without_brackets("[::1]") == "::1"
    assert [without_brackets(host) for host in ("::1", "localhost", "[::1")] == [
        "::1",
        "localhost",
        "[::1",
    ]


def test_a_peer_with_ipv4_has_its_own_address() -> None:
    assert unmapped("::ffff:192.0.2.7") == "192.0.2.7"
    for host in ("192.0.2.7", "::1", "::ffff:0:1", "2001:db8::ffff:1"):
        assert unmapped(host) == host


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%\x9b31m", "fe80::1"),
        ("evil\x9b31m", None),
        ("192.0.2.7 evil", None),
        ("192.0.2.07", None),
        ("example.org", None),
        ("", None),
        ("1" * 40_000, None),
    ],
)
def test_an_address_is_one_or_nothing(host: str, address: str | None) -> None:
    assert plain_address(host) == address
