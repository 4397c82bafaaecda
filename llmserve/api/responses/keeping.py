"""How responses get into the store: when they end, or while they are generated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

import orjson

from llmserve.api.responses.body import ResponseBody
from llmserve.api.responses.input_items import listed
from llmserve.api.responses.resource import Resource
from llmserve.api.responses.stored_items import off
from llmserve.api.responses.writer import ResponseWriter
from llmserve.domain import Started
from llmserve.errors import InvalidRequest, ShuttingDown, StoreFailed
from llmserve.service import Generation
from llmserve.storage.response_store import ResponseStore
from llmserve.storage.stored import Stored

RETRY_SECONDS: Final = (1.0, 10.0, 60.0)
"""Between attempts to store how a response in the background ended."""


class Keeper:
    """Keeps one response of a caller."""

    def __init__(
        self, store: ResponseStore, caller: str, body: ResponseBody, resource: Resource
    ) -> None:
        self._store = store
        self._caller = caller
        self._previous = body.previous_response_id
        self._items = body.items
        self._resource = resource

    async def keep(self, response: dict[str, Any]) -> None:
        """Store it as it is.

        Raises:
            StoreFailed: it cannot be.
        """
        # Items and log probabilities may be megabytes, and others' streams must not wait.
        await self._store.insert(await asyncio.to_thread(self._stored, response))

    async def keep_if_possible(self, response: dict[str, Any] | None) -> None:
        """The answer is there already: one that cannot be stored, which the log says, is told all
        the same."""
        if response is None:
            return
        with contextlib.suppress(StoreFailed):
            await self.keep(response)

    async def until_kept(
        self, frames: AsyncGenerator[bytes], writer: ResponseWriter
    ) -> AsyncIterator[bytes]:
        """The frames of a stream. When the client reads the last one, the response is stored."""
        is_kept = False
        async with aclosing(frames):
            async for frame in frames:
                if writer.whole_response is not None and not is_kept:
                    is_kept = True
                    await self.keep_if_possible(writer.whole_response)
                yield frame

    async def generate(
        self, generation: Generation, writer: ResponseWriter, opened: AsyncExitStack
    ) -> None:
        """Read a generation to its end, in the background, and store what becomes of it.

        Cancelled by its client, it has been stored as such before; cancelled for another reason,
        it failed.
        """
        async with opened:
            try:
                async with aclosing(generation.events()) as events:
                    async for event in events:
                        writer.take(event)
                        if isinstance(event, Started):
                            with contextlib.suppress(StoreFailed):
                                await self._update(writer.so_far("in_progress"))
            finally:
                ended = writer.whole_response or writer.broken_off(
                    ShuttingDown("the server ended before the response was complete")
                )
                await asyncio.shield(self._end(ended))

    def _stored(self, response: dict[str, Any]) -> Stored:
        return Stored(
            id=self._resource.id,
            caller=self._caller,
            previous=self._previous,
            status=response["status"],
            owner=self._store.owner,
            response=orjson.dumps(response),
            items=orjson.dumps(listed(self._items, self._resource.hex)),
        )

    async def _end(self, response: dict[str, Any]) -> None:
        """One whose end is not stored would be in progress for as long as this worker lives."""
        for seconds in RETRY_SECONDS:
            with contextlib.suppress(StoreFailed):
                await self._update(response)
                return
            await asyncio.sleep(seconds)
        await self._update(response)

    async def _update(self, response: dict[str, Any]) -> None:
        await self._store.update(self._resource.id, response["status"], orjson.dumps(response))


def wants_store(body: ResponseBody, store: ResponseStore | None) -> bool:
    """Whether a response is to be kept. Where there is a store, that is the API's default.

    Raises:
        InvalidRequest: it is asked for and there is none.
    """
    if store is None:
        for name in ("background", "store"):
            if getattr(body, name):
                raise InvalidRequest(off(f"`{name}: true`"), param=name)
        return False
    return body.store is not False
