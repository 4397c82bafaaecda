"""What other workers answer: nonsense, lies, silence; then what each did."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from bounded import run

from llmserve.fleet.board import Board, State
from llmserve.fleet.control import ControlServer
from llmserve.fleet.membership import Membership
from llmserve.operations import fleet_operations
from llmserve.operations.command import Command, Kind
from llmserve.operations.fleet_operations import FleetOperations
from llmserve.operations.operations import WorkerReply
from llmserve.operations.worker_operations import WorkerOperations

DONE = {"event": "done", "model": "m", "seconds": 0.5}
STATUS = {
    "worker": 0,
    "pid": 7,
    "state": "serving",
    "device": "cpu",
    "uptime_seconds": 1.0,
    "rss_bytes": None,
    "connections": 3,
    "models": [
        {"name": "m", "status": "ready", "running": 0, "waiting": 0, "memory_bytes": 1, "new": 2}
    ],
}


def answered(
    tmp_path: Path, kind: Kind, answers: Iterable[Any], *, silent: bool = False
) -> list[WorkerReply]:
    """What comes of a worker that says this, or that is asked and never does."""
    found: list[WorkerReply] = []

    async def say(request: dict[str, Any]) -> AsyncGenerator[Any]:
        if silent:
            await asyncio.Event().wait()
        for answer in answers:
            yield answer

    async def test() -> None:
        (tmp_path / "workers").mkdir()
        membership = Membership(tmp_path, 1)
        membership.row.beat(State.READY, 0)
        assert membership.socket.name == f"{os.getpid()}.sock"
        server = ControlServer(membership.socket, say)
        await server.keep()
        box = FleetOperations(cast(WorkerOperations, None), membership)
        async with asyncio.timeout(10):
            found.extend([told async for told in box.run(Command(kind))])
        await server.close()
        membership.leave()
        membership.board.close()

    run(test)
    return found


@pytest.mark.parametrize(
    "answer",
    [
        "text",
        [],
        {},
        {"event": "done"},
        {"event": "done", "status": 3},
        {"event": "done", "status": STATUS | {"models": [{}]}},
        {"event": "done", "status": STATUS | {"rss_bytes": "many"}},
        {"event": "surprise"},
        {"event": "error", "error": "no"},
        {"event": "error", "error": {"message": "m", "type": "t", "param": None, "code": "c"}},
        {"event": ["done"]},
    ],
)
@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.WARM])
def test_an_answer_that_is_none_is_that_workers_error(
    tmp_path: Path, kind: Kind, answer: object
) -> None:
    (told,) = answered(tmp_path, kind, [answer])
    assert told.is_last
    error = told.message["error"]
    assert (error["status"], error["code"]) == (502, "worker_invalid")
    assert "its answer is not a valid reply" in error["message"]


def test_an_answer_that_ends_too_early_is_that_workers_error(tmp_path: Path) -> None:
    progress = {"event": "progress", "name": "m", "status": "loading"}
    told = answered(tmp_path, Kind.LOAD, [progress])
    assert told[0].message == progress
    assert told[1].message["error"]["code"] == "worker_gone"


def test_a_worker_whose_heart_stopped_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_operations, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Board, "is_alive", lambda board, number: False)
    (told,) = answered(tmp_path, Kind.STATUS, [], silent=True)
    assert told.message["error"]["code"] == "worker_gone"


def test_what_comes_after_the_last_message_is_not_heard(tmp_path: Path) -> None:
    assert [t.message for t in answered(tmp_path, Kind.LOAD, [DONE, DONE])] == [DONE]


def test_replies_come_through_with_all_that_another_version_adds(tmp_path: Path) -> None:
    reply = {"event": "done", "status": STATUS | {"newer": True}}
    assert [t.message for t in answered(tmp_path, Kind.STATUS, [reply])] == [reply]
