"""The table: whose a response is, what is kept of it, and for how long."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserve.storage.database import Bounds, Database
from llmserve.storage.stored import Stored

DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    opened = Database(tmp_path / "r.db", Bounds(4, 1000, DAY), clock)
    yield opened
    opened.close()


def stored(
    response_id: str, caller: str = "me", *, status: str = "completed", size: int = 10
) -> Stored:
    return Stored(response_id, caller, None, status, "w", b"r" * size, b"")


def names(database: Database, *ids: str, caller: str = "me") -> list[str]:
    return [name for name in ids if database.find(caller, name) is not None]


def test_a_response_is_found_as_it_was_stored_by_its_caller_alone(database: Database) -> None:
    one = Stored("a", "me", "b", "completed", "w", b"{}", b"[]")
    database.insert(one)
    assert database.find("me", "a") == one
    assert database.find("you", "a") is None
    assert not database.delete("you", "a")
    assert database.delete("me", "a")
    assert not database.delete("me", "a")
    assert database.find("me", "a") is None


def test_another_process_finds_it(database: Database, tmp_path: Path, clock: Clock) -> None:
    database.insert(stored("a"))
    other = Database(tmp_path / "r.db", Bounds(4, 1000, DAY), clock)
    assert other.find("me", "a") is not None
    other.close()


def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(4)

    def open_one() -> None:
        ready.wait()
        try:
            Database(tmp_path / "new.db", Bounds(4, 1000, DAY)).close()
        except sqlite3.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_file_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    database.insert(stored("a"))
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_what_was_not_used_for_too_long_is_gone(database: Database, clock: Clock) -> None:
    database.insert(stored("a"))
    database.insert(stored("b"))
    clock.now += DAY - 10
    database.use(["a"])
    clock.now += 20
    assert names(database, "a", "b") == ["a"]
    assert not database.delete("me", "b")
    database.insert(stored("c"))
    clock.now -= 20
    assert names(database, "b") == [], "and not only hidden"


def test_the_oldest_of_the_caller_with_the_most_makes_room(database: Database) -> None:
    database.insert(stored("y", "you"))
    for name in "abcd":
        database.insert(stored(name))
    assert names(database, "a", "b", "c", "d") == ["b", "c", "d"]
    assert names(database, "y", caller="you") == ["y"]


def test_use_makes_younger(database: Database) -> None:
    for name in "abcd":
        database.insert(stored(name))
    database.use(["a"])
    database.insert(stored("e"))
    assert names(database, "a", "b", "e") == ["a", "e"]


def test_bytes_are_bounded_too_and_the_largest_caller_makes_room(database: Database) -> None:
    database.insert(stored("y", "you", size=300))
    database.insert(stored("a", size=600))
    database.insert(stored("b", size=200))
    assert names(database, "a", "b") == ["b"]
    assert names(database, "y", caller="you") == ["y"]


def test_what_is_too_large_for_all_is_not_kept(database: Database) -> None:
    database.insert(stored("a", size=1001))
    assert names(database, "a") == []


def test_what_runs_is_updated_until_it_ends_and_not_pushed_out(database: Database) -> None:
    database.insert(stored("run", status="queued"))
    for name in "abcdef":
        database.insert(stored(name))
    assert names(database, "run", "f") == ["run", "f"]
    assert database.running("w") == {"run"}
    assert database.running("another") == set()
    assert database.update("run", "in_progress", b"half")
    assert database.update("run", "completed", b"whole")
    assert not database.update("run", "failed", b"late")
    found = database.find("me", "run")
    assert found is not None
    assert (found.status, found.response, found.is_running) == ("completed", b"whole", False)
    assert database.running("w") == set()


def test_a_response_that_grew_too_large_makes_room(database: Database) -> None:
    database.insert(stored("run", status="queued"))
    database.insert(stored("a", size=500))
    database.update("run", "completed", b"x" * 600)
    assert names(database, "run", "a") == ["run"]


def test_a_write_that_fails_leaves_nothing_half_done(database: Database) -> None:
    database.insert(stored("a"))
    with pytest.raises(sqlite3.IntegrityError):
        database.insert(stored("a"))
    database.insert(stored("b"))
    assert names(database, "a", "b") == ["a", "b"]
