"""Events as they come over a wire: in any pieces, with anything between."""

from __future__ import annotations

import pytest

from llmserve.engines.remote.sse import MOST_BYTES, SSEReader, TooLarge

STREAM = (
    b": hi\r\n\r\nid: 4\r\nevent: x\r\ndata: a\r\n\r\ndata:b\ndata: c\n\n\n\ndata: \n\nretry: 1\n\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size_have_the_same_events(size: int) -> None:
    reader = SSEReader()
    pieces = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    found = [data for piece in pieces for data in reader.feed(piece)]
    assert found == [b"a", b"b\nc", b""]


@pytest.mark.parametrize("piece", [b"x" * 2**16, b"data: " + b"x" * 2**16 + b"\n"])
def test_an_event_without_an_end_is_not_kept(piece: bytes) -> None:
    reader = SSEReader()
    for _ in range(MOST_BYTES // 2**16):
        assert list(reader.feed(piece)) == []
    with pytest.raises(TooLarge):
        list(reader.feed(piece))
