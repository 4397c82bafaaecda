"""Streams whose reader is cut off and comes back, late, never, or as somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from bounded import run

from llmserve.service.kept_stream import RING_BYTES, KeptStream
from llmserve.service.kept_streams import KeptStreams

LONG = 3600.0
LARGE = b"x" * (RING_BYTES // 4)


class Source:
    """Frames that a test makes, and whether they were closed and released."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.made = 0
        self.is_closed = self.is_released = False

    async def frames(self) -> AsyncGenerator[bytes]:
        try:
            while (frame := await self.queue.get()) is not None:
                self.made += 1
                yield frame
        finally:
            self.is_closed = True

    async def release(self) -> None:
        self.is_released = True

    def say(self, *frames: bytes | None) -> None:
        for frame in frames:
            self.queue.put_nowait(frame)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


def tried(test: Callable[[KeptStreams, Source, KeptStream], Awaitable[None]]) -> None:
    async def body() -> None:
        kept, source = KeptStreams(LONG, 4 * RING_BYTES), Source()
        stream = kept.keep("s", "me", source.frames(), source.release)
        try:
            await test(kept, source, stream)
        finally:
            await kept.close()
        assert source.is_released
        assert kept.find("s", "me", 0) is None

    run(body)


def test_nothing_is_kept_where_it_is_not_asked_for() -> None:
    assert not KeptStreams(0.0, 2**30).make_room()
    assert not KeptStreams(1.0, RING_BYTES - 1).make_room()
    assert KeptStreams(1.0, RING_BYTES).make_room()
    assert not KeptStreams(0.0, 2**30).keeps_any
    assert KeptStreams(1.0, RING_BYTES).keeps_any


def test_a_stream_that_nobody_comes_back_to_is_ended() -> None:
    async def test() -> None:
        kept, source = KeptStreams(0.01, RING_BYTES), Source()
        stream = kept.keep("s", "me", source.frames(), source.release)
        source.say(b"a")
        reader = stream.read(0)
        assert await anext(reader) == (1, b"a")
        await asyncio.sleep(0.05)
        assert kept.find("s", "me", 1) is stream, "it is being read"
        await reader.aclose()
        await until(lambda: source.is_released)
        assert kept.find("s", "me", 1) is None
        assert kept.make_room()

    run(test)


def test_a_stream_that_was_never_read_is_ended() -> None:
    async def test() -> None:
        kept, source = KeptStreams(0.01, RING_BYTES), Source()
        kept.keep("s", "me", source.frames(), source.release)
        await until(lambda: source.is_released)

    run(test)


def test_who_comes_back_goes_on_behind_what_it_has_seen() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        source.say(b"a", b"b")
        reader = stream.read(0)
        assert [await anext(reader), await anext(reader)] == [(1, b"a"), (2, b"b")]
        await reader.aclose()
        source.say(b"c", b"d", None)
        await until(lambda: stream.is_over)
        again = kept.find("s", "me", 1)
        assert again is stream
        assert source.is_released, "before the reader sees the end"
        assert [each async for each in again.read(1)] == [(2, b"b"), (3, b"c"), (4, b"d")]
        assert kept.find("s", "me", 3) is stream, "the last frame may have been lost on the way"
        assert kept.find("s", "me", 4) is None, "all has been seen"
        assert kept.find("s", "me", 5) is None, "nobody has seen the future"

    tried(test)


def test_somebody_elses_stream_is_not_found() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        assert kept.find("s", "you", 0) is None
        assert kept.find("t", "me", 0) is None

    tried(test)


def test_a_new_reader_takes_the_place_of_the_one_before() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        old = stream.read(0)
        waiting = asyncio.ensure_future(anext(old, None))
        await asyncio.sleep(0)
        new = stream.read(0)
        fresh = asyncio.ensure_future(anext(new))
        assert await waiting is None
        source.say(b"a")
        assert await fresh == (1, b"a")
        await new.aclose()

    tried(test)


def test_a_slow_reader_loses_nothing_and_holds_the_maker_back() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        source.say(*[LARGE] * 20, None)
        for _ in range(200):
            await asyncio.sleep(0)
        assert source.made <= 6, "the first reader has not come yet"
        reader = stream.read(0)
        assert (await anext(reader))[0] == 1
        for _ in range(200):
            await asyncio.sleep(0)
        assert source.made <= 6
        assert [number async for number, _ in reader] == list(range(2, 21))

    tried(test)


def test_without_a_reader_the_oldest_frames_go() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        reader = stream.read(0)
        first = asyncio.ensure_future(anext(reader))
        source.say(LARGE)
        await first
        await reader.aclose()
        source.say(*[LARGE] * 19, None)
        await until(lambda: stream.is_over)
        assert kept.find("s", "me", 10) is None
        assert [each async for each in stream.read(10)] == [], "never with a gap"
        found = kept.find("s", "me", 16)
        assert found is not None
        assert [number async for number, _ in found.read(16)] == [17, 18, 19, 20]

    tried(test)


def test_streams_that_are_over_give_way_and_running_ones_do_not() -> None:
    async def test() -> None:
        kept = KeptStreams(LONG, 2 * RING_BYTES)
        over, running, third = Source(), Source(), Source()
        one = kept.keep("over", "me", over.frames(), over.release)
        kept.keep("running", "me", running.frames(), running.release)
        assert not kept.make_room()
        over.say(b"a", None)
        await until(lambda: one.is_over)
        assert kept.make_room()
        assert kept.find("over", "me", 0) is None
        kept.keep("third", "me", third.frames(), third.release)
        assert not kept.make_room()
        assert kept.find("running", "me", 0) is not None
        await kept.close()
        await one.close()
        assert running.is_released
        assert third.is_released

    run(test)


def test_a_later_stream_of_the_same_id_takes_its_name() -> None:
    async def test(kept: KeptStreams, source: Source, stream: KeptStream) -> None:
        other = Source()
        later = kept.keep("s", "me", other.frames(), other.release)
        assert kept.find("s", "me", 0) is later
        await stream.close()
        assert kept.find("s", "me", 0) is later

    tried(test)
