"""gzip in pieces, members and bombs."""

from __future__ import annotations

import gzip
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserve.api.edge.gunzip import MAX_MEMBERS, Gunzip
from llmserve.errors import InvalidRequest


def fed(gunzip: Gunzip, data: bytes, size: int) -> bytes | None:
    parts = []
    for piece in (data[i : i + size] for i in range(0, len(data), size)):
        part = gunzip.feed(piece)
        if part is None:
            return None
        parts.append(part)
    return b"".join(parts)


@given(members=st.lists(st.binary(max_size=300), min_size=1, max_size=4), size=st.integers(1, 400))
def test_any_file_in_any_pieces_is_what_gzip_makes_of_it(members: list[bytes], size: int) -> None:
    data = b"".join(map(gzip.compress, members))
    plain = b"".join(members)
    gunzip = Gunzip(len(plain))
    assert fed(gunzip, data, size) == plain
    gunzip.check_complete()
    if plain:
        assert fed(Gunzip(len(plain) - 1), data, size) is None


def test_nothing_at_all_is_an_empty_file() -> None:
    gunzip = Gunzip(10)
    assert gunzip.feed(b"") == b""
    gunzip.check_complete()


def test_what_is_over_the_bound_stays_so() -> None:
    gunzip = Gunzip(10)
    bomb = gzip.compress(bytes(10_000_000))
    assert gunzip.feed(bomb) is None
    assert gunzip.feed(bomb) is None


def test_a_bomb_costs_no_more_memory_than_the_bound() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    gunzip = Gunzip(1_000_000)
    tracemalloc.start()
    try:
        assert gunzip.feed(bomb) is None
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_short_is_refused() -> None:
    gunzip = Gunzip(100)
    gunzip.feed(gzip.compress(b"hello")[:-1])
    with pytest.raises(InvalidRequest, match="cut short"):
        gunzip.check_complete()


@pytest.mark.parametrize(
    "data", [b"{}", b"\x1f\x8b nonsense", gzip.compress(b"x", mtime=0) + b"{}"]
)
def test_what_is_no_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Content-Encoding"):
        Gunzip(100).feed(data)


def test_a_checksum_is_checked() -> None:
    data = bytearray(gzip.compress(b"hello"))
    data[-8] ^= 1
    with pytest.raises(InvalidRequest, match="Content-Encoding"):
        Gunzip(100).feed(bytes(data))


def test_endless_empty_members_are_refused() -> None:
    empty = io.BytesIO()
    gzip.GzipFile(fileobj=empty, mode="wb").close()
    with pytest.raises(InvalidRequest, match="members"):
        Gunzip(100).feed(empty.getvalue() * (MAX_MEMBERS + 1))
