"""A connection to Redis, which may be away for a while. Needs the extra `redis`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, cast

from loguru import logger

from llmserve.errors import ConfigurationError, StoreFailed
from llmserve.jobs.redis.scripts import START
from llmserve.trouble import Trouble

TIMEOUT_SECONDS: Final = 5.0
DURABLE: Final = {"appendonly": "yes", "appendfsync": "always"}


class Connection:
    """Runs commands and scripts. Nothing is sent twice: whoever asked knows whether that is safe.

    Raises:
        ConfigurationError: the extra is missing, or the URL is none of Redis's.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis.asyncio as library
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError as error:
            raise ConfigurationError(
                "queue_url needs the extra `redis`; install it with pip install 'llmserve[redis]'"
            ) from error
        try:
            self.client = library.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        except ValueError as error:
            raise ConfigurationError(f"queue_url: {error}") from error
        self._running: set[asyncio.Future[Any]] = set()
        self._errors = (RedisError, OSError)
        self._trouble = Trouble("the queue of batches cannot be used", "batches stand still")

    def script(self, text: str) -> Script:
        """One of `scripts.py`."""
        return Script(self, self.client.register_script(START + text))

    async def done(self, work: Awaitable[Any]) -> Any:
        """The result of a command, whose types the client does not know: they depend on how it is
        set up. It goes on when whoever waits for it is cancelled: the client
        might lose the cancellation, and its connection the place in the stream of answers.

        Raises:
            StoreFailed: Redis does not answer, or refuses.
        """
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            result = await asyncio.shield(task)
        except self._errors as error:
            self._trouble.begins(error)
            raise StoreFailed(
                "the queue of batches cannot be used now; the log says why"
            ) from error
        self._trouble.is_over()
        return result

    async def check(self) -> None:
        """Before the server starts: whether it answers; and a warning if it may forget.

        Raises:
            ConfigurationError: it does not answer.
        """
        try:
            await cast(Awaitable[Any], self.client.ping())
        except self._errors as error:
            raise ConfigurationError(f"queue_url: Redis cannot be used: {error}") from error
        try:
            config = await self.client.config_get(*DURABLE)
        except self._errors:
            return  # not everybody may ask that
        if config != DURABLE:
            logger.warning(
                "Redis may lose answers of batches when it or its machine ends; set {}",
                " and ".join(f"{name} {value}" for name, value in DURABLE.items()),
            )

    async def close(self) -> None:
        """Let go, when what was begun is done."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.client.aclose()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever still waits


class Script:
    """A script that Redis keeps, and gets again after it has forgotten it."""

    def __init__(self, connection: Connection, script: Any) -> None:
        self._connection = connection
        self._script = script

    async def __call__(self, *arguments: str | bytes | float) -> Any:
        """Run it."""
        return await self._connection.done(self._script(args=arguments))
