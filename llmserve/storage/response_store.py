"""Stored responses, for the event loop: the database is read and written on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from llmserve.errors import (
    ConfigurationError,
    InvalidRequest,
    PreviousResponseNotFound,
    StoreFailed,
)
from llmserve.storage.background import BackgroundResponses
from llmserve.storage.database import Bounds, Database
from llmserve.storage.owner import Owner
from llmserve.storage.stored import Stored
from llmserve.trouble import Trouble

T = TypeVar("T")

MOST_LINKS: Final = 1000
MOST_CHAIN_BYTES: Final = 32 * 2**20
"""Of one conversation: far more than a model's context holds."""


class ResponseStore:
    """All workers of a box share one file.

    Attributes:
        background: the responses that this worker generates though nobody waits for them.
    """

    def __init__(self, database: Database, owner: Owner, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._owner = owner
        self._thread = thread
        self._trouble = Trouble(
            "the store of responses cannot be used", "answers are not kept, and not found"
        )
        self.background = BackgroundResponses(self.running)

    @property
    def owner(self) -> str:
        """The name of this worker."""
        return self._owner.name

    async def insert(self, new: Stored) -> None:
        """Keep one more."""
        await self._run(self._database.insert, new)

    async def update(self, response_id: str, status: str, response: bytes) -> bool:
        """What has become of a response; whether it was still running."""
        return await self._run(self._database.update, response_id, status, response)

    async def find(self, caller: str, response_id: str) -> Stored | None:
        """The caller's response of this id."""
        return await self._run(self._database.find, caller, response_id)

    async def delete(self, caller: str, response_id: str) -> bool:
        """Forget the caller's response; whether there was one."""
        return await self._run(self._database.delete, caller, response_id)

    async def conversation(self, caller: str, last_id: str) -> list[Stored]:
        """The responses that a conversation consists of, the first one first. They are kept for
        longer now.

        Raises:
            InvalidRequest: it is very long.
            PreviousResponseNotFound: one of them is not there.
        """
        return await self._run(self._conversation, caller, last_id)

    async def is_orphan(self, stored: Stored) -> bool:
        """Whether it is running in a worker that is no more."""
        if not stored.is_running:
            return False
        return not await self._run(self._owner.is_alive, stored.owner)

    async def running(self) -> set[str]:
        """The ids of those that this worker generates, and that nobody cancelled or deleted."""
        return await self._run(self._database.running, self.owner)

    async def close(self) -> None:
        """Cancel what is generated in the background, and let go of the file."""
        await self.background.close()
        with contextlib.suppress(StoreFailed):
            await self._run(self._database.close)
        self._owner.close()
        self._thread.shutdown()

    def _conversation(self, caller: str, last_id: str) -> list[Stored]:
        links: list[Stored] = []
        size = 0
        wanted: str | None = last_id
        while wanted is not None:
            link = self._database.find(caller, wanted)
            if link is None:
                raise PreviousResponseNotFound(
                    f"previous response {wanted!r} is not found: it was deleted, was not used for "
                    "too long, or is another key's",
                    param="previous_response_id",
                )
            size += link.size
            if len(links) == MOST_LINKS or size > MOST_CHAIN_BYTES:
                raise InvalidRequest(
                    f"the conversation has more than {MOST_LINKS} responses, or "
                    f"{MOST_CHAIN_BYTES} bytes; begin a new one",
                    param="previous_response_id",
                )
            links.append(link)
            wanted = link.previous
        self._database.use([link.id for link in links])
        return links[::-1]

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, partial(work, *args))
        except (sqlite3.Error, OSError) as error:
            self._trouble.begins(error)
            raise StoreFailed(
                "the store of responses cannot be used now; the log says why"
            ) from error
        self._trouble.is_over()
        return done


@contextlib.asynccontextmanager
async def open_store(
    path: Path, bounds: Bounds, clock: Callable[[], float] = time.time
) -> AsyncIterator[ResponseStore]:
    """The store in this file, which is made if it is not there.

    Raises:
        ConfigurationError: it cannot be used.
    """
    thread = ThreadPoolExecutor(1, "responses")
    loop = asyncio.get_running_loop()
    owner = _new_owner(path.with_name(path.name + "-owners"))
    try:
        database = await loop.run_in_executor(thread, Database, path, bounds, clock)
    except ConfigurationError:
        owner.close()
        thread.shutdown()
        raise
    store = ResponseStore(database, owner, thread)
    try:
        yield store
    finally:
        await store.close()


def _new_owner(folder: Path) -> Owner:
    try:
        return Owner(folder)
    except OSError as error:
        raise ConfigurationError(f"responses_store: {folder} cannot be used: {error}") from error
