"""When a streamed response is stored: before its last event is sent, or not at all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
from bounded import run
from scripted_generation import ScriptedGeneration

from llmserve.api.answer import frames_of
from llmserve.api.responses import keeping
from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.keeping import Keeper
from llmserve.api.responses.resource import Resource
from llmserve.api.responses.writer import ResponseWriter
from llmserve.domain import Delta, Finish, FinishReason, SamplingParams, Started, Usage
from llmserve.errors import StoreFailed
from llmserve.storage.stored import Stored

END = Finish(FinishReason.STOP, Usage(3, 1))


class Store:
    """Keeps in memory, or fails."""

    owner = "w"

    def __init__(self, *, fails: bool = False) -> None:
        self.kept: list[Stored] = []
        self.updates: list[str] = []
        self.failing_updates = 0
        self._fails = fails

    async def insert(self, new: Stored) -> None:
        if self._fails:
            raise StoreFailed("no")
        self.kept.append(new)

    async def update(self, response_id: str, status: str, response: bytes) -> bool:
        self.updates.append(status)
        if len(self.updates) <= self.failing_updates:
            raise StoreFailed("no")
        return True


def keeper_and_writer(
    store: Store, generation: ScriptedGeneration
) -> tuple[Keeper, ResponseWriter]:
    body = ResponseBody.model_validate({"input": "hi"})
    resource = Resource(body, "fake", SamplingParams(), is_stored=True)
    writer = ResponseWriter([generation], resource)  # type: ignore[list-item]
    return Keeper(store, "me", body, resource), writer  # type: ignore[arg-type]


def kept_stream(store: Store, generation: ScriptedGeneration) -> AsyncGenerator[bytes]:
    keeper, writer = keeper_and_writer(store, generation)
    frames = frames_of([generation], writer)  # type: ignore[list-item]
    stream = keeper.until_kept(frames, writer)
    assert isinstance(stream, AsyncGenerator)
    return stream


def test_whoever_reads_the_last_event_finds_the_response_stored() -> None:
    async def test() -> None:
        store = Store()
        seen = [
            (frame.split(b"\n")[0], len(store.kept))
            async for frame in kept_stream(store, ScriptedGeneration([Delta("a", (1,)), END]))
        ]
        assert seen[-2:] == [
            (b"event: response.output_item.done", 0),
            (b"event: response.completed", 1),
        ]
        [kept] = store.kept
        assert (kept.caller, kept.status, kept.owner) == ("me", "completed", "w")

    run(test)


def test_of_a_stream_that_is_left_nothing_is_stored() -> None:
    async def test() -> None:
        store = Store()
        stream = kept_stream(store, ScriptedGeneration([Delta("a", (1,)), END]))
        async for frame in stream:
            if frame.startswith(b"event: response.output_item.done"):
                break
        await stream.aclose()
        assert store.kept == []

    run(test)


def test_a_store_that_fails_takes_nothing_from_the_stream() -> None:
    async def test() -> None:
        generation = ScriptedGeneration([Delta("a", (1,)), END])
        frames = [frame async for frame in kept_stream(Store(fails=True), generation)]
        assert frames[-1].startswith(b"event: response.completed")

    run(test)


@pytest.mark.parametrize(
    ("failing", "stored"),
    [(0, ["in_progress", "completed"]), (3, ["in_progress"] + ["completed"] * 3)],
)
def test_the_end_of_one_in_the_background_is_stored_though_the_store_fails_for_a_while(
    monkeypatch: pytest.MonkeyPatch, failing: int, stored: list[str]
) -> None:
    monkeypatch.setattr(keeping, "RETRY_SECONDS", (0, 0, 0))

    async def test() -> None:
        store, generation = Store(), ScriptedGeneration([Started(3), Delta("a", (1,)), END])
        store.failing_updates = failing
        keeper, writer = keeper_and_writer(store, generation)
        await keeper.generate(generation, writer, AsyncExitStack())  # type: ignore[arg-type]
        assert store.updates == stored

    run(test)
