"""One worker asks another: dead peers, broken frames, answers cut short; then answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from loguru import logger
from open_files import num_open_files

from llmserve.fleet.control import ControlServer, ForeignPeer, ask


async def count(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
    for number in range(request["to"]):
        yield {"number": number}


def test_nobody_there_is_a_connection_error(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionError, match="gone"):
            async for _ in ask(tmp_path / "1.sock", {}):
                pass

    run(test)


def test_what_is_not_json_ends_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        server = ControlServer(tmp_path / "1.sock", count)
        await server.keep()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "1.sock")
        writer.write(b"nonsense\n")
        assert await reader.read() == b""
        writer.close()
        assert [a async for a in ask(tmp_path / "1.sock", {"to": 1})] == [{"number": 0}]
        await server.close()

    run(test)


@pytest.mark.parametrize("other", ["listener", "client"])
def test_nothing_is_told_to_another_users_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Whoever looks believes to be somebody else, so that to it the other end is a stranger."""

    async def test() -> None:
        heard: list[object] = []
        path = tmp_path / "1.sock"

        async def listen(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
            heard.append(request)
            yield {}

        server = ControlServer(path, listen)
        await server.keep()
        with monkeypatch.context() as patched:
            patched.setattr(os, "geteuid", lambda: 12345)
            if other == "listener":
                with pytest.raises(ForeignPeer, match="another user's process"):
                    await anext(ask(path, {"prompt": "secret"}))
            else:
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"{}\n")
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
        assert heard == []
        assert [answer async for answer in ask(path, {"to": 1})] == [{}]
        await server.close()

    run(test)


def test_closing_ends_answers_under_way_and_removes_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async def never(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
            yield {"first": True}
            await asyncio.Event().wait()

        path = tmp_path / "1.sock"
        server = ControlServer(path, never)
        await server.keep()
        answers = ask(path, {})
        assert await anext(answers) == {"first": True}
        await server.close()
        with pytest.raises(StopAsyncIteration):
            await anext(answers)
        assert not path.exists()

    run(test)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_socket_that_was_removed_is_made_anew_and_answers_under_way_go_on(
    tmp_path: Path, replaced: bool
) -> None:
    async def test() -> None:
        going_on = asyncio.Event()

        async def slow(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
            yield {"first": True}
            await going_on.wait()
            yield {"second": True}

        path = tmp_path / "1.sock"
        server = ControlServer(path, slow)
        await server.keep()
        kept = path.stat().st_ino
        await server.keep()
        assert path.stat().st_ino == kept
        under_way = ask(path, {})
        assert await anext(under_way) == {"first": True}
        path.unlink()
        if replaced:
            path.touch()
        await server.keep()
        later = ask(path, {})
        assert await anext(later) == {"first": True}
        going_on.set()
        assert await anext(under_way) == await anext(later) == {"second": True}
        await server.close()

    run(test)
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_cannot_be_made_is_told_once_and_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        log: list[str] = []
        sink = logger.add(log.append, format="{level}", level="INFO")
        folder = tmp_path / "gone"
        before = num_open_files()
        server = ControlServer(folder / "1.sock", count)
        try:
            for _ in range(3):
                await server.keep()
            assert num_open_files() == before
            folder.mkdir()
            await server.keep()
        finally:
            logger.remove(sink)
        assert [answer async for answer in ask(folder / "1.sock", {"to": 1})] == [{"number": 0}]
        assert log == ["ERROR\n", "INFO\n"]
        await server.close()

    run(test)


def test_the_socket_of_a_dead_process_is_replaced_and_is_for_its_user_alone(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        path = tmp_path / "1.sock"
        path.touch()
        server = ControlServer(path, count)
        await server.keep()
        assert path.stat().st_mode & 0o777 == 0o600
        assert [a["number"] async for a in ask(path, {"to": 3})] == [0, 1, 2]
        await server.close()

    run(test)
