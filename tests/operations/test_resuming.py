"""A stream that is read on in another worker: one that has it, has it no more, lies or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from bounded import run

from llmserve.fleet.board import PID, State
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.operations import resuming
from llmserve.operations.resuming import answer, find_anywhere
from llmserve.service.kept_stream import RING_BYTES
from llmserve.service.kept_streams import KeptStreams

Say = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any]]]


async def frames() -> AsyncGenerator[bytes]:
    for text in ("a", "b", "ç"):
        yield f"data: {text}\n\n".encode()


async def release() -> None: ...


async def asked(folder: Path, say: Say, after: int) -> list[tuple[int, bytes]] | None:
    """What a worker finds at its only peer. Both are this process, under different numbers."""
    (folder / "workers").mkdir(exist_ok=True)
    peer, own = Membership(folder, 1), Membership(folder, 1)
    try:
        peer.row.beat(State.READY, 0)
        own.row.beat(State.READY, 0)
        server = ControlServer(peer.socket, say)
        await server.keep()
        found = await find_anywhere(KeptStreams(0, 0), own, "s", "me", after)
        read = None if found is None else [each async for each in found]
        await server.close()
        return read
    finally:
        own.leave()
        peer.leave()


def test_a_worker_that_lies_hangs_or_is_gone_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "ASK_SECONDS", 0.05)

    async def lies(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        yield {"found": "perhaps"}

    async def hangs(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    async def says_nothing(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        return
        yield {}

    async def test() -> None:
        for say in (lies, hangs, says_nothing):
            assert await asked(tmp_path, say, 0) is None
        lonely = Membership(tmp_path, 1)
        lonely.board._write(1, PID, 1)
        lonely.board._write(1, 16, State.READY)
        assert await find_anywhere(KeptStreams(0, 0), lonely, "s", "me", 0) is None
        assert await find_anywhere(KeptStreams(0, 0), None, "s", "me", 0) is None
        lonely.leave()

    run(test)


def test_the_worker_that_has_it_sends_what_is_behind_the_place(tmp_path: Path) -> None:
    async def test() -> None:
        kept = KeptStreams(60.0, RING_BYTES)
        kept.keep("s", "me", frames(), release)

        def say(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
            return answer(kept, request)

        assert await asked(tmp_path, say, 1) == [
            (2, b"data: b\n\n"),
            (3, "data: ç\n\n".encode()),
        ]
        assert await asked(tmp_path, say, 3) is None
        await kept.close()

    run(test)


def test_a_stream_of_this_worker_needs_no_other(tmp_path: Path) -> None:
    async def test() -> None:
        kept = KeptStreams(60.0, RING_BYTES)
        stream = kept.keep("s", "me", frames(), release)
        while not stream.is_over:
            await asyncio.sleep(0)
        found = await find_anywhere(kept, None, "s", "me", 2)
        assert found is not None
        assert [each async for each in found] == [(3, "data: ç\n\n".encode())]
        await kept.close()

    run(test)
