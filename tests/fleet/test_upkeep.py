"""What a process does about its part of the run directory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from bounded import run
from loguru import logger

from llmserve.fleet import upkeep as module
from llmserve.fleet.control import ControlServer, ask
from llmserve.fleet.run_directory import SOCKETS, RunDirectory
from llmserve.fleet.upkeep import Upkeep


def test_a_chore_that_fails_is_told_once_and_tried_again(tmp_path: Path) -> None:
    room: list[str] = []
    done: list[str] = []

    def chore() -> None:
        if not room:
            raise OSError(28, "No space left on device")
        done.append("it")

    log: list[str] = []
    sink = logger.add(log.append, format="{level} {message}", level="INFO")
    upkeep = Upkeep(RunDirectory(tmp_path / "run"), chore)
    try:
        for _ in range(3):
            upkeep.look()
        assert (tmp_path / "run").is_dir()
        room.append("some")
        upkeep.look()
    finally:
        logger.remove(sink)
    upkeep.close()
    assert done == ["it"]
    assert [line.split()[0] for line in log] == ["ERROR", "INFO"]
    assert "No space left on device; the workers go on serving" in log[0]


def test_directory_and_socket_come_back_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)

    async def echo(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        yield request

    async def test() -> None:
        directory = RunDirectory(tmp_path / "run")
        upkeep = Upkeep(directory)
        upkeep.look()
        path = directory.path / SOCKETS / "1.sock"
        control = ControlServer(path, echo)
        await control.keep()
        running = asyncio.create_task(upkeep.run(control))
        shutil.rmtree(directory.path)
        while not path.exists():
            await asyncio.sleep(0.001)
        assert [answer async for answer in ask(path, {"a": 1})] == [{"a": 1}]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await control.close()
        upkeep.close()

    run(test)
