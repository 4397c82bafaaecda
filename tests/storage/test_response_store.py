"""The store as the event loop sees it."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from bounded import run

from llmserve.errors import (
    ConfigurationError,
    InvalidRequest,
    PreviousResponseNotFound,
    StoreFailed,
)
from llmserve.storage import response_store
from llmserve.storage.database import Bounds
from llmserve.storage.response_store import ResponseStore, open_store
from llmserve.storage.stored import Stored


def opened(path: Path) -> AbstractAsyncContextManager[ResponseStore]:
    return open_store(path / "r.db", Bounds(100, 10_000, 60))


def link(name: str, previous: str | None, owner: str = "w", status: str = "completed") -> Stored:
    return Stored(name, "me", previous, status, owner, b"{}", b"[]")


def test_a_conversation_is_its_responses_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path) as store:
            for name, previous in (("a", None), ("b", "a"), ("c", "b"), ("d", "b")):
                await store.insert(link(name, previous))
            conversation = await store.conversation("me", "d")
            assert [one.id for one in conversation] == ["a", "b", "d"]
            await store.delete("me", "a")
            with pytest.raises(PreviousResponseNotFound, match="'a'"):
                await store.conversation("me", "d")
            with pytest.raises(PreviousResponseNotFound, match="'d'"):
                await store.conversation("you", "d")

    run(test)


def test_a_conversation_may_not_be_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(tmp_path) as store:
            for name, previous in (("a", None), ("b", "a"), ("c", "b")):
                await store.insert(link(name, previous))
            monkeypatch.setattr(response_store, "MOST_LINKS", 2)
            assert len(await store.conversation("me", "b")) == 2
            with pytest.raises(InvalidRequest, match="2 responses"):
                await store.conversation("me", "c")
            monkeypatch.setattr(response_store, "MOST_CHAIN_BYTES", 7)
            with pytest.raises(InvalidRequest, match="7 bytes"):
                await store.conversation("me", "b")

    run(test)


def test_what_another_worker_ran_is_an_orphan_once_that_one_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path) as mine:
            async with opened(tmp_path) as other:
                await other.insert(link("a", None, other.owner, "in_progress"))
                await mine.insert(link("b", None, mine.owner, "in_progress"))
                [a, b] = [await mine.find("me", name) for name in "ab"]
                assert a is not None
                assert b is not None
                assert not await mine.is_orphan(a)
                assert await other.running() == {"a"}
            assert await mine.is_orphan(a)
            assert not await mine.is_orphan(b)
            assert not await mine.is_orphan(link("c", None, other.owner))

    run(test)


def test_a_file_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(ConfigurationError, match="responses_store"):
            async with opened(tmp_path / "nowhere"):
                pass
        (tmp_path / "r.db").write_text("this is no database, it is a text about one" * 50)
        with pytest.raises(ConfigurationError, match="not a database"):
            async with opened(tmp_path):
                pass

    run(test)


def test_a_failure_later_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def test() -> None:
        async with opened(tmp_path) as store:
            monkeypatch.setattr(store._database, "insert", fail)
            with pytest.raises(StoreFailed):
                await store.insert(link("a", None))
            assert await store.find("me", "a") is None, "the rest goes on"

    run(test)
